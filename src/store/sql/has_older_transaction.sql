-- has_older_transaction: whether a transaction with a lower id still runs. No locks. $1 transaction id. Caller: forgetting.
select pg_snapshot_xmin(pg_current_snapshot()) < $1::xid8
