-- list_sourced_subscriptions: every subscription, if there is any stream. One probe of stream_events and a small table. No parameters.
select id from subscriptions where exists (select from stream_events) order by id
