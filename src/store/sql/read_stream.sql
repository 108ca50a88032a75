-- read_stream: the head of a stream, the kept state of a shape, and the first events behind it. One row without an event if there is none behind it; no row
-- if there is no such stream. The state stands in the first row. Relies on streams_type_key_key and the primary keys. No locks. $1 type, $2 key,
-- $3 shape (null: from the beginning), $4 versions at most. Caller: uow::sourcing.
with head as materialized (select id, version from outbox.streams where type = $1 and key = $2),
kept as materialized (
    select k.version, k.state from outbox.stream_states k join head h on h.id = k.stream where k.shape = $3 and k.version <= h.version)
select h.id as stream, h.version as head, k.version as state_version,
       case when e.place is null or e.place = 1 then k.state::text end as state,
       e.version, e.id, e.type, e.recorded_version, e.payload
  from head h
  left join kept k on true
  left join lateral (
       select v.version, v.version - coalesce(k.version, 0) as place, e.id, e.type, e.headers ->> 'version' as recorded_version, e.payload::text as payload
         from outbox.stream_events v
         left join outbox.events e on e.seq = v.seq
        where v.stream = h.id and v.version > coalesce(k.version, 0) and v.version <= coalesce(k.version, 0) + $4
        order by v.version) e on true
