-- list_subject_projections: versions of projections that have read events of a person while the key was there. Relies on the primary key of events. No locks.
-- $1 seqs, $2 subject. Caller: forgetting.
select p.name, p.version, p.target, p.is_live
  from projections p
  join subscriptions s on s.id = p.subscription
 where p.dropped_at is null and p.began_at <= (select coalesce(max(destroyed_at), 'infinity') from subject_keys where subject = $2)
   and exists (select from events e where e.seq = any ($1) and wants(s, e))
 order by p.name, p.version
