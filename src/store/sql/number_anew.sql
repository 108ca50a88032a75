-- number_anew: the next number of the sequence for an event whose own was used before; where it is a version of a stream, that follows it.
-- Behind raise_sequences and allow_log_changes. $1 seq.
with renumbered as (update events set seq = default where seq = $1 returning seq)
update stream_events v set seq = r.seq from renumbered r where v.seq = $1
