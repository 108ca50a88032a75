-- release_lease: give a subscription back after a drain; `lease_until` stays, so that people see since when nobody owns it. $1 subscription, $2 epoch.
update subscriptions set owner = null, lease_until = clock_timestamp() where id = $1 and epoch = $2
