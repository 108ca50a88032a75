-- read_alert_channels: how each channel is doing. A small table. No parameters.
select name, kind, last_sent_at, failures, last_error, failed_at, retry_at from alert_channels order by name
