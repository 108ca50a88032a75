-- repair_bell: make the bell anew for the schema at the head of the search_path, as the migration does. Needs its owner. Locks out
-- writers for a moment. No parameters.
do $$
declare
    key bigint := hashtextextended('outboxd bell ' || current_schema(), 0);
begin
    execute format('create or replace function bell_key() returns bigint language sql immutable parallel safe as ''select %s::bigint''', key);
    execute format('create or replace function ring_bell() returns trigger language plpgsql as '
                   '$bell$ begin perform pg_notify(%L, ''''); return null; end $bell$', left('outboxd_' || current_schema(), 63));
    execute format('create or replace trigger ring_bell after insert on events for each statement '
                   'when (not pg_try_advisory_xact_lock_shared(%s)) execute function ring_bell()', key);
end $$
