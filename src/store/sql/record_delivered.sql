-- record_delivered: the whole flush where everything succeeded at the first attempt: position and markers in one statement.
-- Zero rows: the lease is lost. Locks one row. $1 to $10 as in record_position, $11 the seqs, at least one.
with mine as (
    update subscriptions
       set snapshot = $3::pg_snapshot, low_seq = $4, high_seq = $5,
           window_snapshot = $6::pg_snapshot, window_seq = $7, window_high_seq = $8,
           done = case when $10 then $9::int8multirange else done end,
           moved_at = clock_timestamp()
     where id = $1 and epoch = $2
    returning id)
insert into deliveries (subscription, seq, state, attempts, handled_at)
select mine.id, delivered.seq, 'delivered', 1, statement_timestamp()
  from mine, unnest($11::bigint[]) as delivered (seq)
