-- read_stream_page: the next events of a stream. Bounded by versions, which have no gaps, because a plan without statistics would read all that follow. Relies
-- on stream_events_pkey and the primary key of events. No locks. $1 stream, $2 after this version, $3 up to this version, $4 versions at most.
-- Caller: uow::sourcing.
select v.version, e.id, e.type, e.headers ->> 'version' as recorded_version, e.payload::text as payload
  from outbox.stream_events v
  left join outbox.events e on e.seq = v.seq
 where v.stream = $1 and v.version > $2 and v.version <= least($3, $2 + $4)
 order by v.version
