-- count_subject_traces: what else is known of the events of a person from before the key was destroyed. Reads the kept states and the alerts; relies on the
-- primary key of deliveries, attempts_by_delivery and stream_events_seq_key for the rest. No locks. $1 seqs, $2 ids as texts, $3 and $4: how an envelope names
-- the person; $5 subject. Caller: forgetting.
with destroyed as materialized (select coalesce(max(destroyed_at), 'infinity') as at from subject_keys where subject = $5)
select 'stream_states' as place, count(*) as rows
  from stream_states k
 where k.saved_at <= (select at from destroyed)
   and (k.stream = any (array(select v.stream from stream_events v where v.seq = any ($1))) or strpos(k.state::text, $3) > 0 or strpos(k.state::text, $4) > 0)
union all
select 'attempts.detail', count(*)
  from attempts a
 where a.subscription = any (array(select id from subscriptions)) and a.seq = any ($1) and a.at <= (select at from destroyed) and a.detail is not null
union all
select 'deliveries.detail', count(*)
  from deliveries d
 where d.subscription = any (array(select id from subscriptions)) and d.seq = any ($1) and d.detail is not null
   and coalesce(d.handled_at, d.first_attempt_at, '-infinity') <= (select at from destroyed)
   and not exists (select from attempts a where a.subscription = d.subscription and a.seq = d.seq and a.at > (select at from destroyed))
union all
select 'alerts', count(*)
  from alerts a
 where a.changed_at <= (select at from destroyed) and exists (select from unnest($2::text[]) as id where strpos(a.sample::text, id) > 0)
   and (a.detail is not null or a.sample is not null)
union all
select 'projections.detail', count(*)
  from projections p where p.stopped_seq = any ($1) and p.detail is not null and p.stopped_at <= (select at from destroyed)
union all
select 'projection_skips.detail', count(*)
  from projection_skips s where s.seq = any ($1) and s.detail is not null and s.skipped_at <= (select at from destroyed)
