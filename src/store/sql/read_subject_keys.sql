-- read_subject_keys: the keys of subjects, to decrypt with. Relies on subject_keys_pkey. No locks. $1 subjects. Caller: uow::shredding.
select subject, key, wrapped, master, destroyed_at::text as destroyed_at from outbox.subject_keys where subject = any ($1)
