-- read_prepared: transactions that were prepared for a second phase, the oldest first. Readable by any role.
select gid, owner::text as role, database::text as database,
       (extract(epoch from clock_timestamp() - prepared) * 1000000)::bigint as age_micros
  from pg_prepared_xacts
 order by prepared
 limit 20
