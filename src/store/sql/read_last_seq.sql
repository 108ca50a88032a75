-- read_last_seq: the last sequence number. Read before a snapshot, it is a bound for the events after the snapshot.
select last_seq()
