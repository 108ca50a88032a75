-- snooze_alert: send nothing about it for a while; none: send again. $1 key, $2 microseconds. No row: there is no such alert, or
-- it is over.
update alerts
   set snoozed_until = case when $2 > 0 then clock_timestamp() + $2 * interval '1 microsecond' end
 where key = $1 and status <> 'resolved'
