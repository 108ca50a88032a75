-- unlock_bell: let producers skip the bell again.
select pg_advisory_unlock(bell_key())
