-- drop_adoption: the trigger goes with its function, which requires the owner of the function only and not that of the table. Waits for
-- all users of the table, and admits no other session meanwhile. {function}.
drop function if exists {function}() cascade
