-- use_subject_keys: create the keys of subjects that have none, and lock all of them until the transaction ends. Relies on subject_keys_pkey. Locks
-- the rows, shared. $1 subjects, $2 ids and $3 wrapped keys of new ones, $4 fingerprint of the master key. Caller: uow::shredding.
select subject, key, wrapped, master, destroyed_at::text as destroyed_at from outbox.use_subject_keys($1, $2, $3, $4)
