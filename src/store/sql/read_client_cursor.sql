-- read_client_cursor: the stored cursor of a client. Relies on client_cursors_pkey. Locks nothing. $1 client, $2 name.
-- Called by store::feed::kept.
select cursor, revision, moved_at, place from client_cursors where client = $1 and name = $2
