-- acknowledge_alert: an operator acknowledges an alert. The revision rises because some channels are notified. $1 key, $2 actor. No row: it is not firing.
update alerts
   set status = 'acknowledged', acknowledged_by = $2, revision = revision + 1, changed_at = clock_timestamp()
 where key = $1 and status = 'firing'
