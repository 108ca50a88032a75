-- lift_statement_timeout: a confirmed action may take as long as it needs; until the end of the transaction.
select set_config('statement_timeout', '0', true)
