-- read_marked_transaction: the last line of record_event and record_events where a unit of work records: the number of the transaction, if it bears
-- the mark of the unit. Otherwise that was ended by SQL, and asking for a setting that no server has fails the statement, which records nothing
-- then. The name of the setting is what the caller knows the refusal by. No locks. Caller: uow::record.
select case current_setting('outboxd.unit', true)
       when 'open' then pg_current_xact_id()::text
       else current_setting('outboxd.the_transaction_of_the_unit_of_work_has_ended') end
