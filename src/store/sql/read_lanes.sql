-- read_lanes: the keys of a subscription with unfinished deliveries: how many wait, and whether a row of the key itself moves it.
-- Relies on deliveries_by_key. $1 subscription, $2 whether dead letters hold their keys; then those do of which it is noted.
select key, count(*) filter (where state = 'waiting') as waiting,
       bool_or(state = 'retrying' or (state = 'dead' and $2 and holds_key)) as blocked
  from deliveries
 where subscription = $1 and key is not null
   and (state in ('retrying', 'waiting') or (state = 'dead' and $2 and holds_key))
 group by key
