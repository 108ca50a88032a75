-- ring_control: wake the relays after a person changed something. $1 payload.
select pg_notify('outboxd_' || current_schema(), $1)
