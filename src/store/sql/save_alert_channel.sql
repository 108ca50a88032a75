-- save_alert_channel: how a channel is doing, after the fence. $1 to $7: the columns of read_alert_channels in their order.
insert into alert_channels (name, kind, last_sent_at, failures, last_error, failed_at, retry_at)
values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (name) do update
   set kind = excluded.kind, last_sent_at = excluded.last_sent_at, failures = excluded.failures, last_error = excluded.last_error,
       failed_at = excluded.failed_at, retry_at = excluded.retry_at
