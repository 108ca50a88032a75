-- count_owed: how much these handlers still have to do, and how many of them are registered. Reads the whole log: for tests and small
-- outboxes. No locks. $1 handlers.
select (select count(distinct handler) from subscriptions where handler = any ($1)) as registered,
       (select count(*) from event_states where handler = any ($1) and state in ('pending', 'retrying', 'waiting')) as owed
