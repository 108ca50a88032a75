-- read_reload: the answer of one relay to a request; none yet: null. No row: it has stopped. $1 id, $2 which request.
select case when reload_answered >= $2 then reload end from instances where id = $1
