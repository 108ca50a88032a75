-- keep_state: keep the folded state of a stream at a version, unless a later one is kept. Behind append_events, whose lock orders the writers. Locks one row.
-- $1 type, $2 key, $3 shape, $4 version, $5 state. Caller: uow::sourcing.
insert into outbox.stream_states as k (stream, shape, version, state)
select s.id, $3, $4, $5::text::json from outbox.streams s where s.type = $1 and s.key = $2
    on conflict (stream, shape) do update set version = excluded.version, state = excluded.state, saved_at = clock_timestamp()
 where k.version < excluded.version
