-- save_alert: write one alert as a whole, after the fence and lock_alerts. $1 to $18: the columns of read_alerts in their order.
insert into alerts (key, kind, subject, severity, status, started_at, last_seen_at, changed_at, revision, count, age_seconds, detail,
                    sample, told_count, told_at, clear_since, snoozed_until, acknowledged_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14, $15, $16, $17, $18)
    on conflict (key) do update
   set severity = excluded.severity, status = excluded.status, started_at = excluded.started_at, last_seen_at = excluded.last_seen_at,
       changed_at = excluded.changed_at, revision = excluded.revision, count = excluded.count, age_seconds = excluded.age_seconds,
       detail = excluded.detail, sample = excluded.sample, told_count = excluded.told_count, told_at = excluded.told_at,
       clear_since = excluded.clear_since, snoozed_until = excluded.snoozed_until, acknowledged_by = excluded.acknowledged_by
