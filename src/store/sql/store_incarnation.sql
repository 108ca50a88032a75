-- store_incarnation: the cluster and timeline that the positions belong to. One row. $1 system identifier, $2 timeline.
insert into incarnation (system_identifier, timeline) values ($1, $2)
    on conflict (only_row) do update
   set system_identifier = excluded.system_identifier, timeline = excluded.timeline, confirmed_at = clock_timestamp()
