-- read_waiting: the first waiting deliveries of each of some keys, in order, and how many of the key wait: all, or one more than are given at most.
-- Stops before a retry of the key: a replay can put an older delivery in front of one that is retrying.
-- A row without an id: its event is gone from the log. Relies on deliveries_by_key. Locks nothing. $1 subscription, $2 keys, $3 rows per key, $4 bytes in all.
select w.*
  from (select d.seq, e.id, e.type, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.payload, e.headers::text as headers, e.occurred_at, k.key,
               d.attempts, d.replay is not null as is_replay,
               coalesce((extract(epoch from clock_timestamp() - d.first_attempt_at) * 1000000)::bigint, 0) as age_micros,
               c.waiting,
               sum(coalesce(e.payload_bytes, 0)) over (order by d.seq rows unbounded preceding) - coalesce(e.payload_bytes, 0) as bytes_before
          from unnest($2::text[]) as k (key)
         -- Once for a key and not for each of its rows, and no further than it takes to know that more wait than are given.
         cross join lateral (select count(*) as waiting
                               from (select from deliveries f
                                      where f.subscription = $1 and f.key = k.key and f.state = 'waiting'
                                      limit $3 + 1) f) c
         cross join lateral (select seq, attempts, replay, first_attempt_at
                               from deliveries
                              where subscription = $1 and key = k.key and state = 'waiting'
                                and seq < coalesce((select min(r.seq) from deliveries r
                                                     where r.subscription = $1 and r.key = k.key and r.state = 'retrying'), 9223372036854775807)
                              order by seq
                              limit $3) d
          left join events e on e.seq = d.seq) w
 where w.bytes_before < $4
 order by w.seq
