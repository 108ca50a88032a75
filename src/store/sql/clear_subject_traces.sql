-- clear_subject_traces: remove what is known of the events of a person beside the events: kept states of their streams, and texts of attempts, deliveries, alerts
-- and projections. Relies on the primary key of deliveries, attempts_by_delivery and stream_events_seq_key. Locks what it changes. $1 seqs, $2 ids as texts.
-- Returns how many states went and how many texts were removed. Caller: forgetting.
with states as (
    delete from stream_states where stream = any (array(select v.stream from stream_events v where v.seq = any ($1))) returning 1),
attempted as (
    update attempts set detail = null
     where subscription = any (array(select id from subscriptions)) and seq = any ($1) and detail is not null returning 1),
delivered as (
    update deliveries set detail = null
     where subscription = any (array(select id from subscriptions)) and seq = any ($1) and detail is not null returning 1),
alerted as (
    update alerts a set detail = null, sample = null
     where exists (select from unnest($2::text[]) as id where strpos(a.sample::text, id) > 0) returning 1),
stopped as (update projections set detail = null where stopped_seq = any ($1) and detail is not null returning 1),
skipped as (update projection_skips set detail = null where seq = any ($1) and detail is not null returning 1)
select (select count(*) from states) as states,
       (select count(*) from attempted) + (select count(*) from delivered) + (select count(*) from alerted) + (select count(*) from stopped)
       + (select count(*) from skipped) as texts
