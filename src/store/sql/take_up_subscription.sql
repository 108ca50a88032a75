-- take_up_subscription: start a subscription that this relay owns: a new epoch fences earlier work that may still be in flight.
-- No row: the lease is lost. $1 subscription, $2 instance.
update subscriptions
   set epoch = epoch + 1
 where id = $1 and owner = $2
returning epoch, snapshot::text, low_seq, high_seq, window_snapshot::text as window_snapshot, window_seq, window_high_seq,
          done::text as done, paused_at is not null as is_paused, circuit, circuit_reason,
          (extract(epoch from circuit_until - clock_timestamp()) * 1000000)::bigint as circuit_wait_micros
