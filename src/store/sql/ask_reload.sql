-- ask_reload: ask the relays that live to read their configuration again. $1 instance (null: all), $2 microseconds of silence after
-- which a relay is taken for dead. Returns one row per relay that was asked.
update instances set reload_asked = reload_asked + 1
 where ($1::text is null or id = $1) and seen_at > clock_timestamp() - $2 * interval '1 microsecond'
returning id, host, pid, reload_asked
