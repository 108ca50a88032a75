-- record_circuit: store the circuit of a subscription, for the status and for the next owner. Fenced by the epoch.
-- $1 subscription, $2 epoch, $3 state, $4 reason, $5 microseconds until the next probe (null: none), $6 the only event that it is
-- judged by (null: there are others).
update subscriptions
   set circuit = $3, circuit_reason = $4, circuit_until = clock_timestamp() + $5 * interval '1 microsecond',
       circuit_witness = $6,
       circuit_since = case when $3 = 'closed' then null when circuit = 'closed' then clock_timestamp() else circuit_since end
 where id = $1 and epoch = $2
