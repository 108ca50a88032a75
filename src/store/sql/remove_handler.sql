-- remove_handler: the subscriptions of a handler that no relay serves, with everything recorded for them. Runs behind lock_handler.
-- Relies on the primary key of deliveries and on attempts_by_delivery. $1 subscriptions. Returns how many deliveries went.
with gone_attempts as (delete from attempts where subscription = any ($1)),
gone as (delete from deliveries where subscription = any ($1) returning 1),
dropped_items as (
    update replay_items set state = 'dropped', ended_at = clock_timestamp()
     where subscription = any ($1) and state in ('held', 'released')),
gone_use as (
    delete from contract_use where receiver in (select 'handler:' || handler from subscriptions where id = any ($1))),
gone_progress as (delete from progress where subscription = any ($1)),
gone_subscriptions as (delete from subscriptions where id = any ($1))
select count(*) as deliveries from gone
