-- store_rewrapped_keys: keys of persons, wrapped by another master key. One that was destroyed or rewrapped meanwhile stays as it is. Relies on subject_keys_pkey.
-- Locks the rows. $1 subjects, $2 wrapped before, $3 wrapped now, $4 fingerprint. Caller: cli::subjects.
update subject_keys k set wrapped = n.now, master = $4
  from unnest($1::text[], $2::bytea[], $3::bytea[]) as n (subject, before, now)
 where k.subject = n.subject and k.wrapped = n.before
