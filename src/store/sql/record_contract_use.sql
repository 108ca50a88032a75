-- record_contract_use: add the counted deliveries of versions of contracts. Locks the rows that it changes, in the order of the primary
-- key, so that two relays cannot wait for each other.
-- $1 types, $2 versions, $3 receivers, $4 events, $5 and $6 microseconds since the first and since the last of them.
-- Called by store::contract_use.
insert into contract_use as u (type, version, receiver, events, first_at, last_at)
select n.type, n.version, n.receiver, n.events, now() - n.first * interval '1 microsecond', now() - n.last * interval '1 microsecond'
  from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
       as n (type, version, receiver, events, first, last)
 order by n.type, n.version, n.receiver
    on conflict (type, version, receiver) do update
   set events = u.events + excluded.events,
       first_at = least(u.first_at, excluded.first_at),
       last_at = greatest(u.last_at, excluded.last_at)
