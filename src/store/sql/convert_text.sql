-- convert_text: whether a payload that is not in the log can become a jsonb; an error says why not. $1 the payload.
-- Called by store::try_function, and by
-- store::functions for the payload that a contract has cast.
select $1::jsonb is null
