-- bury_event: an event that a handler still owes becomes a dead letter, whether it has a row or not. Runs behind lock_handler; the new
-- epoch fences the work of the owner, and the owner starts again from the stored state. An open circuit that is judged by this event
-- only is closed. No row: nothing was owed. $1 subscription, $2 sequence number, $3 key, $4 why, $5 error, $6 fingerprint.
-- Relies on the primary keys. Called by store::burials.
with buried as (
    insert into deliveries as d (subscription, seq, state, attempts, handled_at, key, reason, detail, error, fingerprint, holds_key)
    values ($1, $2, 'dead', 0, clock_timestamp(), $3, 'operator', $4, $5, $6, false)
        on conflict (subscription, seq) do update
       set state = 'dead', due_at = null, handled_at = clock_timestamp(), reason = 'operator', destination = null,
           detail = excluded.detail || coalesce('; last failed with ' || d.reason || coalesce(': ' || d.detail, ''), ''),
           error = excluded.error, fingerprint = excluded.fingerprint, holds_key = false
     where d.state in ('retrying', 'waiting')
    returning seq),
moved as (
    update subscriptions s
       set epoch = s.epoch + 1, moves = s.moves + 1,
           circuit = case when w.is_only then 'closed' else s.circuit end,
           circuit_since = case when w.is_only then null else s.circuit_since end,
           circuit_until = case when w.is_only then null else s.circuit_until end,
           circuit_reason = case when w.is_only then null else s.circuit_reason end,
           circuit_witness = case when w.is_only then null else s.circuit_witness end
      from (select coalesce(t.circuit_witness = e.id, false) as is_only
              from subscriptions t, events e where t.id = $1 and e.seq = $2) w
     where s.id = $1 and exists (select 1 from buried))
select seq from buried
