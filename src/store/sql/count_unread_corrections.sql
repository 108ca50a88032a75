-- count_unread_corrections: corrections for a handler that it has not read yet: only a handler of this name takes them from the log.
-- Reads the audit, which has one row for each correction, and each event by the unique index on id. Locks nothing. $1 handler.
-- Called by store::corrections.
select count(*)
  from audit a
 cross join lateral (select v.state from event_states v where v.id = (a.filter ->> 'correction')::uuid and v.handler = $1) v
 where a.action = 'edit' and a.handler = $1 and v.state = 'pending'
