-- read_event_progress: how far handlers are with one event that a client may see. No row: there is no such event, or not yet.
-- Of a handler with partitions, only the one that the event belongs to is looked at; the others may record their position much later.
-- Through the unique index on events.id and the primary key of deliveries. Locks nothing.
-- $1 id, $2 and $3 type patterns that must both let it through, $4 headers, $5 handlers.
select s.handler, wants(s, e) as is_wanted,
       pg_visible_in_snapshot(e.tx, s.snapshot)
       or coalesce(e.seq <@ s.done, false)
       or (s.window_snapshot is not null and e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot)) as has_passed,
       d.state::text as state, d.attempts, d.reason, d.due_at, s.paused_at is not null as is_paused, s.circuit <> 'closed' as is_held
  from events e
  left join subscriptions s
         on s.handler = any ($5)
        and (s.partitions = 1
             or partition_of(ordering_key(e.aggregate_type, e.aggregate_id, e.headers, e.payload, s.key_source, s.key_path), e.seq, s.partitions)
                = s.partition)
  left join deliveries d on d.subscription = s.id and d.seq = e.seq
 where e.id = $1
   and ($2::text[] is null or e.type like any ($2)) and ($3::text[] is null or e.type like any ($3)) and ($4::jsonb is null or e.headers @> $4)
 order by s.handler
