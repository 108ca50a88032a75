-- number_anew: the next number of the sequence for an event whose own was used before. Behind raise_sequences and allow_log_changes. $1 seq.
update events set seq = default where seq = $1
