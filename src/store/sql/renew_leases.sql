-- renew_leases: renew the leases that this relay holds and can serve, and read the requests of operators. Locks these rows only, and waits for none: a row that another session
-- has locked keeps its lease as it is, and no instance can take it meanwhile.
-- $1 instance, $2 lease in microseconds, $3 subscriptions that we serve. Returns one row per subscription still ours, with the
-- microseconds that its lease has left: less than $2 if it was not renewed.
with free as materialized (
    select id from subscriptions where owner = $1 and id = any ($3::integer[]) for no key update skip locked),
renewed as (
    update subscriptions s
       set lease_until = clock_timestamp() + $2 * interval '1 microsecond'
      from free
     where s.id = free.id and s.owner = $1
    returning s.id, s.paused_at is not null as is_paused, s.moves, s.circuit_closings)
select id, is_paused, moves, circuit_closings, $2 as left_micros
  from renewed
union all
select s.id, s.paused_at is not null, s.moves, s.circuit_closings,
       (extract(epoch from s.lease_until - clock_timestamp()) * 1000000)::bigint
  from subscriptions s
 where s.owner = $1 and s.id = any ($3::integer[]) and s.id not in (select id from renewed)
