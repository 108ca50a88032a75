-- has_rows_without_id: whether a row that is to be copied has no id, so that it could not be known later that it was copied. Reads the table once at most.
-- {table} {condition} {id}.
select exists (select from {table} as n where {condition} and {id} is null)
