-- list_group_notes: the notes of operators about groups of dead letters, the oldest first. Relies on dead_letter_notes_by_group.
-- $1 handlers, $2 fingerprints: the groups, pair by pair.
select n.handler, n.fingerprint, n.at, n.actor, n.text
  from unnest($1::text[], $2::bigint[]) as g (handler, fingerprint)
  join dead_letter_notes n on n.handler = g.handler and n.fingerprint = g.fingerprint
 order by n.id
