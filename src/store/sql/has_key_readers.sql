-- has_key_readers: whether one of these transactions still runs. No locks. $1 transactions. Caller: forgetting.
select exists (select from pg_locks l
                where l.virtualtransaction = any ($1) and l.locktype = 'relation' and l.relation = 'subject_keys'::regclass
                  and l.database = (select oid from pg_database where datname = current_database()))
