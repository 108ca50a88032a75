-- erase_events: remove events from the log, with their deliveries and attempts; items of replays for them are dropped. Relies on the
-- primary keys of events, deliveries, streams and states, stream_events_seq_key, attempts_by_delivery and replay_items_open. Of a stream the version
-- stays, without its event, and the kept states go. Locks the rows that it removes. $1 seqs. Returns how many went.
with gone as (delete from events where seq = any ($1) returning seq),
-- By arrays and not by joins, as in remove_finished.
gone_deliveries as (
    delete from deliveries where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone))),
gone_attempts as (
    delete from attempts where subscription = any (array(select id from subscriptions)) and seq = any (array(select seq from gone))),
-- Where an event of the feed was, there is nothing; the places of the others stay as they are.
gone_places as (delete from feed where seq = any (array(select seq from gone))),
gone_states as (
    delete from stream_states where stream = any (array(select v.stream from stream_events v where v.seq = any (array(select seq from gone))))),
dropped as (
    update replay_items
       set state = 'dropped', ended_at = clock_timestamp()
     where seq = any (array(select seq from gone)) and state in ('held', 'released'))
select count(*) from gone
