-- prepare_session: set the settings of a session until its end, as far as the server knows them and this role may change them.
-- $1 names, $2 values. Caller: store::session, for each new connection and after each call of a function of the application.
select count(set_config(name, value, false))
  from unnest($1::text[], $2::text[]) as setting (name, value)
 where current_setting(name, true) <> value
   and (name <> 'session_replication_role' or current_setting('is_superuser') = 'on')
