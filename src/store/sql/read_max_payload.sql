-- read_max_payload: the bound on one payload in bytes.
select max_payload_bytes()
