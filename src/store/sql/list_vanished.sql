-- list_vanished: subscriptions that a running relay serves and that were deleted from the table. Small tables.
-- $1 microseconds after which a relay that has said nothing is not running.
select p.name
  from progress p
 where p.seen_at > clock_timestamp() - $1 * interval '1 microsecond'
   and not exists (select 1 from subscriptions s where s.id = p.subscription)
 order by p.name
