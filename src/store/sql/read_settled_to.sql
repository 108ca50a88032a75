-- read_settled_to: when an owner begins: no number above this one can be settled yet, with a row or without. Nothing settled: 0.
-- Relies on the primary key of deliveries; after take_up_subscription in its transaction, so no other instance can settle more. $1 subscription.
select greatest(0, (select max(seq) from deliveries where subscription = $1),
                (select upper(done) - 1 from subscriptions where id = $1))
