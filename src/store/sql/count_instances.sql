-- count_instances: relays alive within a lease. $1 lease in microseconds.
select count(*) from instances where seen_at > clock_timestamp() - $1 * interval '1 microsecond'
