-- append_events: append to a stream in the transaction of a unit of work, as long as it bears the mark of the unit; see read_marked_transaction. Locks the head
-- of the stream. $1 type, $2 key, $3 expected version, $4 ids, $5 types, $6 payloads, $7 headers, $8 when they occurred in microseconds since 1970
-- (null: now). Returns the version after the last event, below zero if they had been appended before. Caller: uow::sourcing.
select case current_setting('outboxd.unit', true)
       when 'open' then outbox.append_events($1, $2, $3, $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[])::text
       else current_setting('outboxd.the_transaction_of_the_unit_of_work_has_ended') end
