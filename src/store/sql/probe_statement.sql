-- probe_statement: what a prepared statement says when it is run again; {token} tells it from one of the same name that another
-- session has prepared.
select '{token}'::text
