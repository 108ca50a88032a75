-- record_subject_walk: note that nothing is left of a person whose key was destroyed. Relies on subject_keys_pkey. Locks one row. $1 subject. Caller: forgetting.
update subject_keys set walked_at = clock_timestamp() where subject = $1 and destroyed_at is not null
