-- insert_group_note: a note on a group, for every handler that has dead letters of it. Relies on deliveries_by_group.
-- $1 handler (null: each that has some), $2 fingerprint, $3 actor, $4 text.
insert into dead_letter_notes (handler, fingerprint, actor, text)
select distinct s.handler, $2::bigint, $3::text, $4::text
  from subscriptions s
 where ($1::text is null or s.handler = $1)
   and exists (select 1 from deliveries d where d.subscription = s.id and d.fingerprint = $2 and d.state = 'dead')
