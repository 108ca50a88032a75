-- take_back_deliveries: forget the outcomes from a number on, so that the log delivers these events again; that a delivery had
-- succeeded stays in its history. A discarded one stays as it is. Relies on the primary key of deliveries.
-- In two steps, because the second blocks the owner: a delivered row is never written again and can go before the subscription
-- is locked; the rest must not, or the owner's flush and we would wait for one another.
-- $1 subscription, $2 first number, $3 whether it is locked and the rest goes, too. Returns how many went.
with gone as (
    delete from deliveries
     where subscription = $1 and seq >= $2
       and (state = 'delivered' or ($3 and state in ('retrying', 'waiting', 'dead')))
    returning seq, state, attempts, status, handled_at),
remembered as (
    insert into attempts (at, seq, subscription, attempt, duration_ms, status, outcome, reason, detail)
    select coalesce(handled_at, clock_timestamp()), seq, $1, greatest(attempts, 1), 0, status, 'delivered', 'ok', 'before a person moved the position back'
      from gone where state = 'delivered')
select count(*) from gone
