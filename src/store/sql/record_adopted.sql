-- record_adopted: adopted rows as events, in the order in which they come: the body of the trigger, and the copy of what is there already.
-- An id that has an event is passed over: the application inserted it twice, or it was copied before. Relies on the unique index on id.
-- {events} {columns} {values} {rows} are made by store::adoption, {rest} is empty or a condition and an order.
insert into {events} ({columns})
select {values}
  from {rows} as n{rest}
    on conflict (id) do nothing
