-- read_silent_relays: the relays that said within a day that they live, and how long each has been silent. A small table.
select id, host, pid, (extract(epoch from clock_timestamp() - seen_at) * 1000000)::bigint as silent_micros,
       exists (select 1 from subscriptions s where s.owner = i.id) as owns
  from instances i
 order by seen_at desc
 limit 100
