-- move_client_cursor: move the stored cursor of a client. Relies on client_cursors_pkey and locks one row. No row: there is none, it has
-- another revision, or it would move backwards without permission.
-- $1 client, $2 name, $3 place, $4 cursor, $5 the revision that the client has seen (null: any), $6 whether it may move backwards.
-- Called by store::feed::kept.
update client_cursors
   set place = $3, cursor = $4, revision = gen_random_uuid(), moved_at = clock_timestamp()
 where client = $1 and name = $2 and ($5::uuid is null or revision = $5) and ($6 or place <= $3)
returning cursor, revision, moved_at
