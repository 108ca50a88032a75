-- list_key_readers: the transactions that have read or used keys of persons and still run, prepared ones included. No locks. Caller: forgetting.
select distinct l.virtualtransaction from pg_locks l
 where l.locktype = 'relation' and l.relation = 'subject_keys'::regclass and l.pid is distinct from pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
