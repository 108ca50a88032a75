-- set_trigger_path: the path that the function of an adopted table has, until the end of the transaction. No parameters.
set local search_path = pg_catalog, pg_temp
