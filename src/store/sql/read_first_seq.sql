-- read_first_seq: the sequence number of the first event of the log; null: it is empty. One look at the primary key. No parameters.
select min(seq) from events
