-- release_lease: give a subscription back after a drain; `lease_until` stays, so that operators see since when it has no owner. $1 subscription, $2 epoch.
update subscriptions set owner = null, lease_until = clock_timestamp() where id = $1 and epoch = $2
