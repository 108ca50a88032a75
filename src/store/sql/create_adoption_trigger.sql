-- create_adoption_trigger: from the commit of this on, no row is inserted without its event. Waits for transactions that have written to the
-- table, and lets no other write meanwhile. {constraint} {name} {table} {how} {function}.
create {constraint}trigger {name} after insert on {table}
    {how} execute function {function}()
