-- find_feed_event: the place of an event that a client may see; no row: there is none, or none any more.
-- Relies on the unique indexes on events.id and feed.seq. $1 id, $2 and $3 type patterns that must both let it through, $4 headers.
select f.place
  from events e join feed f on f.seq = e.seq
 where e.id = $1
   and ($2::text[] is null or e.type like any ($2)) and ($3::text[] is null or e.type like any ($3)) and ($4::jsonb is null or e.headers @> $4)
