-- prepare_session: settings of a session whose start did not take them. $1 names, $2 values. Caller: connect, for each new connection.
select count(set_config(name, value, false)) from unnest($1::text[], $2::text[]) as setting (name, value)
