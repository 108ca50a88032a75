-- find_event_seq: the number of an event. Relies on the unique index on id. $1 id.
select seq from events where id = $1
