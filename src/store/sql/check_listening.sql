-- check_listening: whether this very session listens on the channel of the bell.
select exists (select 1 from pg_listening_channels() c where c = left('outboxd_' || current_schema(), 63))
