-- read_subject: what is known of a person's key. Relies on subject_keys_pkey. No locks. $1 subject. Caller: forgetting.
select subject, key, master, created_at, destroyed_at, walked_at from subject_keys where subject = $1
