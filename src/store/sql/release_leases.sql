-- release_leases: remove all owners; a loop that still runs is fenced off. Locks all subscriptions. No parameters.
update subscriptions set owner = null, lease_until = clock_timestamp(), epoch = epoch + 1
