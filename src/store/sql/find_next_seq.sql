-- find_next_seq: the first number after a stretch without rows, so that a large gap in the sequence costs one probe.
-- Relies on the primary key. $1 after this seq, $2 up to this seq.
select min(seq) from events where seq > $1 and seq <= $2
