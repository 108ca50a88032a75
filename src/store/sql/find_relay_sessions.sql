-- find_relay_sessions: relays that are connected to this database, whatever they think of it. Readable by any role.
select coalesce(host(client_addr), 'local') || ' (server process ' || pid || ')' as session
  from pg_stat_activity
 where datname = current_database() and application_name = 'outboxd relay' and pid <> pg_backend_pid()
 order by pid
