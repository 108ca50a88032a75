-- end_orphans: deliveries that are owed and whose event is gone end as discarded, with a note in the audit. Nothing happens without the
-- lease. Relies on the primary keys of deliveries and events. $1 subscription, $2 epoch, $3 seqs. Returns how many ended.
with ended as (
    update deliveries d
       set state = 'discarded', reason = 'event_gone', detail = 'the event is no longer in the log', handled_at = clock_timestamp(),
           due_at = null, holds_key = false
     where d.subscription = $1 and d.seq = any ($3) and d.state in ('retrying', 'waiting', 'dead')
       and not exists (select from events e where e.seq = d.seq)
       and exists (select from subscriptions s where s.id = $1 and s.epoch = $2)
    returning d.seq),
dropped as (
    update replay_items i
       set state = 'dropped', ended_at = clock_timestamp()
     where i.subscription = $1 and i.seq = any (array(select seq from ended)) and i.state in ('held', 'released')),
noted as (
    insert into audit (actor, action, handler, filter, affected, reason)
    select 'outboxd', 'end_orphans', s.handler, jsonb_build_object('seqs', (select jsonb_agg(seq order by seq) from ended)),
           (select count(*) from ended), 'the event is no longer in the log'
      from subscriptions s
     where s.id = $1 and exists (select from ended))
select count(*) from ended
