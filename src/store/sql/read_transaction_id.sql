-- read_transaction_id: the number of the running transaction, null if it has written nothing, and the mark of a unit of work, which is gone
-- when that one has ended. No locks. Caller: uow.
select pg_current_xact_id_if_assigned()::text, current_setting('outboxd.unit', true)
