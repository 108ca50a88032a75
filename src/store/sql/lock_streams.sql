-- lock_streams: lock the heads of streams in the order of (type, key). $1 types, $2 keys, in pairs. Caller: uow::sourcing.
select outbox.lock_streams($1::text[], $2::text[])
