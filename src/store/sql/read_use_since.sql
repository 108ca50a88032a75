-- read_use_since: since when the use of contracts is counted, and the time now. A small table. No parameters.
-- Called by store::contract_use.
select applied_at, clock_timestamp() as now from migrations where name like '%contract_use'
