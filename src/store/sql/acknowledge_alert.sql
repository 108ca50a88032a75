-- acknowledge_alert: a person knows. The revision rises because some channels are told. $1 key, $2 who. No row: it is not firing.
update alerts
   set status = 'acknowledged', acknowledged_by = $2, revision = revision + 1, changed_at = clock_timestamp()
 where key = $1 and status = 'firing'
