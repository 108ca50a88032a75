-- destroy_subject_key: destroy the key of a person, unless that was done. Waits for transactions that encrypt under it. Relies on subject_keys_pkey. Locks one row.
-- $1 subject. Returns the id of the key and the moment. Caller: forgetting.
update subject_keys set wrapped = null, master = null, destroyed_at = clock_timestamp(), walked_at = null
 where subject = $1 and destroyed_at is null
returning key, destroyed_at
