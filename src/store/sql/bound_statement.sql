-- bound_statement: how long the statements of this transaction may work and wait for locks; ends with it. For looks, which no delivery waits for.
-- They have one plan for any arguments, which is the one that is tested: for some subscriptions a plan of their own walks over all handlers' rows.
-- $1 milliseconds, as text.
select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true), set_config('plan_cache_mode', 'force_generic_plan', true)
