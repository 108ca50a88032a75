-- mark_handled: the mark of a receiver that it handles an event now, in its own transaction; no row if it has one. Waits for another
-- transaction that is just making the same mark. Relies on the primary key. $1 receiver, $2 source, $3 id. Caller: uow::inbox.
insert into outbox.inbox (receiver, source, id) values ($1, $2, $3) on conflict do nothing
