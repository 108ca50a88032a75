-- read_due: deliveries whose next attempt is due, oldest first, with their events. Locks nothing: only the owner reads them.
-- Relies on deliveries_due and the primary key of events; `followed` on deliveries_by_key. $1 subscription, $2 rows, $3 bytes, $4 seqs that are in memory already.
-- The time is a scalar subquery, because no index is searched for a volatile function: `due_at <= clock_timestamp()` reads every retry.
-- A row without an id: its event is gone from the log.
-- `followed`: a younger one of its key waits, is retrying, or holds the key. When a replayed one is done, its key does not simply go on.
select w.*
  from (select d.seq, e.id, e.type, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.payload, e.headers::text as headers, e.occurred_at, d.key,
               d.attempts, d.replay is not null as is_replay,
               coalesce((extract(epoch from clock_timestamp() - d.first_attempt_at) * 1000000)::bigint, 0) as age_micros,
               exists (select 1 from deliveries f
                        where f.subscription = $1 and f.key = d.key and f.seq > d.seq
                           and (f.state in ('waiting', 'retrying') or (f.state = 'dead' and f.holds_key))) as followed,
               case when d.destination is null then coalesce(d.reason, '') else '' end as reason,
               sum(coalesce(e.payload_bytes, 0)) over (order by d.due_at, d.seq rows unbounded preceding) - coalesce(e.payload_bytes, 0) as bytes_before
          from (select seq, key, attempts, replay, first_attempt_at, due_at, reason, destination
                  from deliveries
                 where subscription = $1 and state = 'retrying' and due_at <= (select clock_timestamp()) and seq <> all ($4::bigint[])
                   -- Of a key only the oldest: a replayed one goes before a younger one that is retrying.
                   and (key is null
                        or (select r.seq from deliveries r
                             where r.subscription = $1 and r.key = deliveries.key and r.seq < deliveries.seq and r.state = 'retrying'
                             limit 1) is null)
                 order by due_at
                 limit $2) d
          left join events e on e.seq = d.seq) w
 where w.bytes_before < $3
