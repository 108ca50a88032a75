-- record_together: the flushes of many subscriptions in which everything succeeded at the first attempt, in one statement.
-- Returns those that were written. A subscription whose row another session has locked, and one whose lease is lost, is left out: each of
-- them records alone, and neither is waited for here. Locks one row for each.
-- $1 subscriptions, $2 epochs, $3 to $9 as $3 to $9 in record_position, $10 whether `done` is news; then the markers: $11 their
-- subscriptions, $12 their seqs.
with told as materialized (
    select *
      from unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[],
                  $9::text[], $10::boolean[])
        as told (subscription, epoch, snapshot, low_seq, high_seq, window_snapshot, window_seq, window_high_seq, done, is_news)),
free as materialized (
    select id from subscriptions where id = any ($1::integer[]) for no key update skip locked),
mine as (
    update subscriptions s
       set snapshot = told.snapshot::pg_snapshot, low_seq = told.low_seq, high_seq = told.high_seq,
           window_snapshot = told.window_snapshot::pg_snapshot, window_seq = told.window_seq, window_high_seq = told.window_high_seq,
           done = case when told.is_news then told.done::int8multirange else s.done end,
           moved_at = clock_timestamp()
      from told
      join free on free.id = told.subscription
     where s.id = told.subscription and s.epoch = told.epoch
    returning s.id),
written as (
    insert into deliveries (subscription, seq, state, attempts, handled_at)
    select mine.id, delivered.seq, 'delivered', 1, statement_timestamp()
      from unnest($11::integer[], $12::bigint[]) as delivered (subscription, seq)
      join mine on mine.id = delivered.subscription)
select id from mine
