-- insert_delivered: markers of first-try successes, inside a flush that has passed the fence. $1 subscription, $2 seqs.
insert into deliveries (subscription, seq, state, attempts, handled_at)
select $1, seq, 'delivered', 1, statement_timestamp() from unnest($2::bigint[]) as delivered (seq)
