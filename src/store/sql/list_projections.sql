-- list_projections: every version of every projection with its position, its owner and its failure. Small tables. No parameters.
select p.name, p.version, p.subscription, p.target, p.view, p.is_live, p.rate, p.began_at, p.live_since, p.handled, p.skipped,
       p.stopped_at, p.stopped_seq, p.stopped_event, p.stopped_type, p.attempts, p.reason, p.detail, p.dropped_at,
       s.snapshot::text as snapshot, s.low_seq, s.high_seq, s.window_snapshot::text as window_snapshot, s.window_seq, s.window_high_seq,
       case when s.lease_until > clock_timestamp() then s.owner end as owner, s.paused_at,
       s.type_patterns, s.aggregate_types, s.required_headers,
       (extract(epoch from clock_timestamp() - p.began_at) * 1000000)::bigint as age_micros
  from projections p
  left join subscriptions s on s.id = p.subscription
 order by p.name, p.version
