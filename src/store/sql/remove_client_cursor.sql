-- remove_client_cursor: remove the stored cursor of a client. Relies on client_cursors_pkey and locks one row. No row: there is none, or it has
-- another revision. $1 client, $2 name, $3 the revision that the client has seen (null: any). Called by store::feed::kept.
delete from client_cursors where client = $1 and name = $2 and ($3::uuid is null or revision = $3) returning true
