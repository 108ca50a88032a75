-- bound_statement: how long the statements of this transaction may work and wait for locks; ends with it. For looks that nobody waits for.
-- $1 milliseconds, as text.
select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)
