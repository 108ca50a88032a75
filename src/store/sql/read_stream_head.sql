-- read_stream_head: one stream, and the versions of the states that are kept of it. Relies on streams_type_key_key. No locks. $1 type, $2 key.
select s.id, s.version, s.archived_at,
       (select coalesce(array_agg(k.shape order by k.shape), '{}') from stream_states k where k.stream = s.id) as shapes,
       (select coalesce(array_agg(k.version order by k.shape), '{}') from stream_states k where k.stream = s.id) as state_versions
  from streams s
 where s.type = $1 and s.key = $2
