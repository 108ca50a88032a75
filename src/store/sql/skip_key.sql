-- skip_key: make the event that blocks a key a dead letter that does not hold the key; a dead letter only releases the key. Locks one row.
-- No row: the key waits for nothing, or for another event than was seen. Relies on deliveries_by_key. $1 handler, $2 key, $3 why, $4 error,
-- $5 fingerprint, $6 the event that it was seen to wait for (null: any).
with head as (
    select d.subscription, d.seq, d.state
      from subscriptions s
      join deliveries d on d.subscription = s.id
     where s.handler = $1 and d.key = bounded_key($2)
       and (d.state = 'retrying' or (d.state = 'dead' and d.holds_key
                                     and exists (select 1 from deliveries f
                                                  where f.subscription = s.id and f.key = bounded_key($2) and f.seq > d.seq and f.state = 'waiting')))
     order by d.seq
     limit 1
       for update of d)
update deliveries d
   set state = 'dead', holds_key = false, due_at = null,
       handled_at = case h.state when 'dead' then d.handled_at else clock_timestamp() end,
       reason = case h.state when 'dead' then d.reason else 'operator' end,
       detail = case h.state when 'dead' then d.detail
                     else $3::text || coalesce('; last failed with ' || d.reason || coalesce(': ' || d.detail, ''), '') end,
       error = case h.state when 'dead' then d.error else $4::text end,
       fingerprint = case h.state when 'dead' then d.fingerprint else $5::bigint end
  from head h, events e
 where d.subscription = h.subscription and d.seq = h.seq and e.seq = h.seq and ($6::uuid is null or e.id = $6)
returning e.id, h.state::text as was, d.subscription, d.seq
