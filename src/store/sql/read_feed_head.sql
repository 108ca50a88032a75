-- read_feed_head: the last place that was given. One row of one small table. No parameters. Called while a client waits.
select coalesce((select places from feed_places), 0)
