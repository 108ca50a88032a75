-- read_last_adoption: when the rows of a table were copied last. $1 the table.
select to_char(max(at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI"Z"') from audit where action = 'adopt' and filter ->> 'table' = $1
