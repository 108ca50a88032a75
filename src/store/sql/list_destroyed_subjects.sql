-- list_destroyed_subjects: every person whose key was destroyed. Reads the whole table. No locks. Caller: forgetting.
select subject, key, destroyed_at from subject_keys where destroyed_at is not null order by destroyed_at, subject
