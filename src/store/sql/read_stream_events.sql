-- read_stream_events: a page of a stream: versions in order, each with its event, which is missing where it was erased. Bounded by versions and bytes. Relies
-- on stream_events_pkey and the primary key of events. No locks. $1 stream, $2 after this version, $3 up to this version, $4 versions at most,
-- $5 bytes of payloads; the first event may be larger; $6 the unreadable parts to leave out: 'aggregate', 'headers', 'payload'.
select page.version, page.seq, page.id, page.type, page.aggregate_type, page.aggregate_id, page.aggregate_version, page.payload, page.headers,
       page.occurred_at, page.key
  from (select v.version, e.seq, e.id, e.type, e.aggregate_type, case when 'aggregate' <> all ($6::text[]) then e.aggregate_id end as aggregate_id,
               e.aggregate_version, case when 'payload' <> all ($6) then e.payload else 'null' end as payload,
               case when 'headers' <> all ($6) then e.headers::text else '{}' end as headers,
               e.occurred_at, null::text as key,
               coalesce(sum(e.payload_bytes) over (order by v.version rows between unbounded preceding and 1 preceding), 0) as bytes_before
          from stream_events v
          left join events e on e.seq = v.seq
         where v.stream = $1 and v.version > $2 and v.version <= least($3, $2 + $4)) page
 where page.bytes_before < $5
 order by page.version
