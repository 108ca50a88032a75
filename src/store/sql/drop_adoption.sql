-- drop_adoption: the trigger goes with its function, which asks for the owner of the function only and not for that of the table. Waits for
-- everybody who uses the table, and lets nobody else meanwhile. {function}.
drop function if exists {function}() cascade
