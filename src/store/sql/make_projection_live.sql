-- make_projection_live: readers see this version from now on. Runs behind the locks of both subscriptions. $1 name, $2 version.
-- The one that was live first: two live versions cannot be, not even for a moment.
with ended as (update projections set is_live = false, live_since = null where name = $1 and is_live and version <> $2 returning version)
update projections set is_live = true, live_since = clock_timestamp()
 where name = $1 and version = $2 and (select count(*) from ended) >= 0
