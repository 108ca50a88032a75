-- release_leases: nobody owns anything, and who thinks so is fenced off. Locks all subscriptions. No parameters.
update subscriptions set owner = null, lease_until = clock_timestamp(), epoch = epoch + 1
