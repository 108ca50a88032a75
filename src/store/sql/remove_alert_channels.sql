-- remove_alert_channels: forget channels that are no longer configured, and their notices, after the fence. $1 names that are.
with gone as (delete from alert_channels where name <> all ($1))
delete from alert_notices where channel <> all ($1)
