-- release_alerts: give the alerts back, so that another instance need not wait. $1 epoch.
update alert_lease set owner = null, lease_until = null where epoch = $1
