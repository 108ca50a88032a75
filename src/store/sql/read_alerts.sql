-- read_alerts: every alert that is remembered, the newest change first. A small table. No parameters.
select key, kind, subject, severity, status, started_at, last_seen_at, changed_at, revision, count, age_seconds, detail,
       sample::text as sample, told_count, told_at, clear_since, snoozed_until, acknowledged_by
  from alerts
 order by changed_at desc, key
