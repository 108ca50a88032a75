-- list_contract_use: the counted deliveries of versions of contracts. A small table: a row for each version and receiver.
-- Moments are microseconds since the Unix epoch, which reads the same in a plain text query. No parameters.
-- Called by store::contract_use and by store::facts.
select type, version, receiver, (extract(epoch from first_at) * 1000000)::bigint as first_at,
       (extract(epoch from last_at) * 1000000)::bigint as last_at, events
  from contract_use
 order by type, version, receiver
