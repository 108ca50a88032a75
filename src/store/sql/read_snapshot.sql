-- read_snapshot: which transactions are finished now. In a transaction only before it has a number of its own. No parameters.
select pg_current_snapshot()::text
