-- list_instances: the relays that said within a day that they live, the freshest first. A small table. No parameters. Called by store::status.
select id, host, pid, version, started_at, seen_at,
       (extract(epoch from clock_timestamp() - seen_at) * 1000000)::bigint as silent_micros,
       reloaded_at, reload
  from instances
 order by seen_at desc
 limit 100
