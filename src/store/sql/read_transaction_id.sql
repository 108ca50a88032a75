-- read_transaction_id: the number of the running transaction, null if it has written nothing. No locks. Caller: uow.
select pg_current_xact_id_if_assigned()::text
