-- find_bell_holder: whether another relay holds the bell. Advisory keys stand in pg_locks as two halves.
select exists (
    select 1 from pg_locks
     where locktype = 'advisory' and mode = 'ExclusiveLock' and granted and objsubid = 1
       and database = (select oid from pg_database where datname = current_database())
       and ((classid::bigint << 32) | objid::bigint) = bell_key())
