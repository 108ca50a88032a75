-- rename_handler: give the subscriptions of a handler another name, and with them everything that names them. Deliveries, attempts and
-- the items of replays belong to a subscription by its id and need no change. Runs behind lock_registration and lock_handler.
-- The lease ends and a new epoch fences the outcomes in the memory of a relay. $1 old name, $2 new name. Returns how many subscriptions it has.
with renamed_replays as (update replays set handler = $2 where handler = $1),
renamed_notes as (update dead_letter_notes set handler = $2 where handler = $1),
renamed_audit as (update audit set handler = $2 where handler = $1),
taken_use as (delete from contract_use where receiver = 'handler:' || $1 returning type, version, first_at, last_at, events),
kept_use as (
    insert into contract_use as u (type, version, receiver, first_at, last_at, events)
    select type, version, 'handler:' || $2, first_at, last_at, events from taken_use
        on conflict (type, version, receiver) do update
       set first_at = least(u.first_at, excluded.first_at), last_at = greatest(u.last_at, excluded.last_at), events = u.events + excluded.events),
renamed as (
    update subscriptions
       set handler = $2, owner = null, lease_until = null, epoch = epoch + 1, moves = moves + 1
     where handler = $1
    returning id)
select count(*) from renamed
