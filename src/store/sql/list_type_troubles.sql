-- list_type_troubles: what is not finished, by handler, type and state. Backwards on deliveries_unfinished, as far as $1 rows, each with its event by
-- the primary key; locks nothing. $1 rows. Called by store::traffic.
select s.handler, e.type, d.state::text as state, count(*) as deliveries
  from (select subscription, seq, state from deliveries
         where state in ('retrying', 'waiting', 'dead')
         order by seq desc limit $1) d
  join subscriptions s on s.id = d.subscription
  join events e on e.seq = d.seq
 group by s.handler, e.type, d.state
