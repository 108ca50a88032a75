-- read_feed_place: the event at a place, by the rules of read_feed_page, without its payload: for a place that
-- read_feed_page fails on. Relies on feed_pkey and events_pkey. Locks nothing.
-- $1 place, $2 to $4 type patterns (null: every type), $5 headers, $6 aggregate id, $7 whether to read headers and aggregate, which may be damaged.
select e.seq, e.id, e.type, e.occurred_at, case when $7 then e.headers::text end as headers,
       case when $7 then e.aggregate_type end as aggregate_type, case when $7 then e.aggregate_id end as aggregate_id
  from feed f join events e on e.seq = f.seq
 where f.place = $1
   and ($2::text[] is null or e.type like any ($2)) and ($3::text[] is null or e.type like any ($3)) and ($4::text[] is null or e.type like any ($4))
   and ($5::jsonb is null or e.headers @> $5) and ($6::text is null or e.aggregate_id = $6)
