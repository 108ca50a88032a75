-- try_function: call the application's function for an event that is not in the log. Runs in a transaction that is rolled back.
-- {function} is a quoted name, {payload} a type. $1 id, $2 type, $3 key, $4 payload, $5 headers.
select {function}($1, $2, $3, $4::{payload}, $5::jsonb)
