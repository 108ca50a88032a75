-- convert_text: whether a payload that is not in the log can become a jsonb; an error says why not. $1 the payload.
-- Called by store::try_function, and by
-- store::functions for what a contract has made of a payload.
select $1::jsonb is null
