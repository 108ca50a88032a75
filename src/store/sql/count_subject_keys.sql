-- count_subject_keys: how many persons have a key by each master key, and how many keys were destroyed. Reads the whole table. No locks. Caller: cli::subjects.
select master, count(*) as keys from subject_keys group by master order by master nulls last
