-- read_transaction_status: the status of a transaction: committed, aborted, in progress, or null when it is too long ago. No locks.
-- $1 its number as a text. Caller: uow::was_committed.
select pg_xact_status($1::text::xid8)
