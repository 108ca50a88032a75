-- read_server_settings: the settings of the server and this role that decide whether events survive a crash. Touches no table of ours.
-- Caller of this and the following, all without parameters so that they pass any pooler: store::facts.
select current_setting('server_version_num')::integer / 10000 as major, current_user::text as role,
       current_database()::text as database, current_setting('server_encoding') as encoding, coalesce(current_schema()::text, '') as current_schema,
       exists (select 1 from pg_namespace where nspname = (parse_ident(current_setting('search_path'), false))[1]) as has_schema,
       pg_is_in_recovery() as is_standby,
       current_setting('fsync')::boolean as fsync, current_setting('full_page_writes')::boolean as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('autovacuum')::boolean as autovacuum, current_setting('track_counts')::boolean as track_counts,
       pg_notification_queue_usage() as queue_usage,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all_sessions,
       exists (select 1 from pg_namespace n where n.nspname = current_schema()
                                              and exists (select 1 from pg_class c where c.relnamespace = n.oid and c.relname = 'events')) as has_outbox
