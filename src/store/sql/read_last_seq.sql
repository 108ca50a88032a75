-- read_last_seq: the sequence as it stands; read before a snapshot is taken it bounds what comes after the snapshot.
select last_seq()
