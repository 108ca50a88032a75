-- ring_control: wake the relays after an operator's command. $1 payload.
select pg_notify(left('outboxd_' || current_schema(), 63), $1)
