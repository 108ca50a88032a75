-- close_circuit: an operator knows that the receiver works again. Locks the handler's rows. $1 handler.
-- The count tells an owner that wrote "open" at the same moment to close it all the same.
update subscriptions
   set circuit = 'closed', circuit_since = null, circuit_until = null, circuit_reason = null, circuit_closings = circuit_closings + 1
 where handler = $1 and circuit <> 'closed'
