-- begin_feed_epoch: a new history of the places, if this is another server than the one of the last. Small tables only.
-- The publisher calls it before it gives the first place; a rebase calls it with a reason, for a feed that has places.
-- $1 subscription, $2 its epoch (the fence; both null in a rebase), $3 why a new epoch begins whatever the server is (null: it does not).
-- Returns the timeline, and whether an epoch has begun.
with server as materialized (
    select left(pg_walfile_name(pg_current_wal_lsn()), 8) as timeline,
           s.system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '/' || d.oid || '/' || 'incarnation'::regclass::oid as name
      from pg_control_system() s cross join pg_database d
     where d.datname = current_database()),
-- The one row of each, where the feed has none yet.
counter as (insert into feed_places (places) select 0 where $1::integer is not null on conflict do nothing),
removed as (insert into feed_removed (place) select 0 where $1::integer is not null on conflict do nothing),
last as materialized (select number, server from feed_epochs order by number desc limit 1),
begun as (
    insert into feed_epochs (number, epoch, began_after, why, server)
    select coalesce(l.number, 0) + 1, gen_random_uuid(), coalesce((select places from feed_places), 0),
           case when l.number is null then 'first' when $3::text is not null then $3
                when split_part(l.server, '/', 1) = split_part(s.name, '/', 1) then 'timeline' else 'rebase' end,
           s.name
      from server s left join last l on true
     where case when $3 is not null then l.number is not null
                else l.server is distinct from s.name
                     and exists (select from subscriptions where id = $1 and epoch = $2) end
    returning number)
select s.timeline, exists (select from begun) as has_begun from server s
