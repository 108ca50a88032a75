-- lift_statement_timeout: what a person has confirmed may take its time; until the end of the transaction.
select set_config('statement_timeout', '0', true)
