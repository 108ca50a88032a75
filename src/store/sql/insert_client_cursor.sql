-- insert_client_cursor: store the first cursor of a client under a name. Locks the new row. No row: there is one already.
-- $1 client, $2 name, $3 place, $4 cursor. Called by store::feed::kept.
insert into client_cursors (client, name, place, cursor) values ($1, $2, $3, $4)
    on conflict (client, name) do nothing
returning cursor, revision, moved_at
