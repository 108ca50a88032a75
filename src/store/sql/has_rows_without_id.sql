-- has_rows_without_id: whether a row that is to be copied has no id, so that nobody could tell later that it was. Reads the table once at most.
-- {table} {condition} {id}.
select exists (select from {table} as n where {condition} and {id} is null)
