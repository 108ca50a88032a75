-- read_feed_page: the events after a place, in order, with limits on the places that are searched. Locks nothing.
-- Relies on feed_pkey (a range of places) and events_pkey (one probe for each place whose type is wanted). The types are found first, so
-- that a filter by type costs no probe; one by header or subject costs a probe for each place, which is why $3 bounds them.
-- One statement on purpose: head, removed places and events are those of one snapshot.
-- $1 after this place, $2 span of places, $3 most places looked up, $4 most events, $5 most bytes, $6 to $8 type patterns that must all
-- let a type through (null: every type), $9 headers, $10 aggregate id.
-- Returns at least one row; `place` is null where nothing was found. `scanned` and `scanned_to` say how far it looked.
with bounds as materialized (
    select coalesce((select places from feed_places), 0) as head, coalesce((select place from feed_removed), 0) as removed_place,
           (select epoch from feed_epochs order by number desc limit 1) as epoch),
wanted as materialized (
    select coalesce(array_agg(id), '{}') as ids
      from types
     where ($6::text[] is null or type like any ($6)) and ($7::text[] is null or type like any ($7)) and ($8::text[] is null or type like any ($8))),
scanned as materialized (
    select place, seq
      from feed
     where place > $1::bigint and place <= $1 + $2::bigint
       and ($6 is null and $7 is null and $8 is null or type_id = any ((select ids from wanted)::integer[]))
     order by place
     limit $3::bigint),
found as (
    select x.*, sum(x.payload_bytes) over (order by x.place rows unbounded preceding) as bytes_after
      from (select s.place, e.*
              from scanned s
             cross join lateral (
                   select seq, id, type, aggregate_type, aggregate_id, aggregate_version, payload, headers::text as headers, occurred_at,
                          null::text as key, payload_bytes
                     from events
                    where seq = s.seq and ($9::jsonb is null or headers @> $9) and ($10::text is null or aggregate_id = $10)
                   offset 0) e
             order by s.place
             limit $4::bigint) x)
select b.head, b.removed_place, b.epoch, (select count(*) from scanned) as scanned, (select max(place) from scanned) as scanned_to,
       f.place, f.seq, f.id, f.type, f.aggregate_type, f.aggregate_id, f.aggregate_version, f.payload, f.headers, f.occurred_at, f.key,
       f.bytes_after::bigint as bytes_after
  from bounds b left join found f on f.bytes_after - f.payload_bytes < $5::bigint
 order by f.place
