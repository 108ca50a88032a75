-- replace_max_payload: another bound on payloads; cached plans that folded the old one are thrown away by the server. {bytes} is a number.
create or replace function max_payload_bytes() returns integer language sql immutable parallel safe as 'select {bytes}';
