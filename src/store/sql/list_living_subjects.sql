-- list_living_subjects: which of these persons have a key. Relies on subject_keys_pkey. No locks. $1 subjects. Caller: forgetting.
select subject from subject_keys where subject = any ($1) and destroyed_at is null order by subject
