-- find_missing_grants: the rights that a relay needs and this role lacks. Tables that are not named here are taken to need everything.
with needed as (
    select c.oid, c.relname::text as name, c.relkind,
           case when c.relkind = 'S' and c.relname = 'events_seq_seq' then '{SELECT}'
                when c.relkind = 'S' then '{}'
                when c.relkind = 'v' or c.relname = 'migrations' then '{SELECT}'
                when c.relname = 'events' then '{SELECT,DELETE}'
                when c.relname in ('streams', 'stream_events') then '{SELECT}'
                when c.relname = 'stream_states' then '{SELECT,DELETE}'
                when c.relname = 'subject_keys' then '{SELECT}'
                when c.relname = 'audit' then '{SELECT,INSERT}'
                when c.relname in ('incarnation', 'replays', 'alert_lease') then '{SELECT,INSERT,UPDATE}'
                else '{SELECT,INSERT,UPDATE,DELETE}' end::text[] as privileges
      from pg_class c
     where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'v', 'S'))
select case n.relkind when 'S' then 'sequence ' else '' end as kind, n.name, lower(string_agg(p, ', ' order by place)) as privileges
  from needed n
 cross join unnest(n.privileges) with ordinality as wanted (p, place)
 where case when n.relkind = 'S' then not has_sequence_privilege(n.oid, p) else not has_table_privilege(n.oid, p) end
 group by n.relkind, n.name
union all
select 'function ', p.oid::regprocedure::text, 'execute'
  from pg_proc p
 where p.pronamespace = current_schema()::regnamespace and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
   and p.proname not in ('append', 'append_events', 'answer_again', 'lock_streams', 'use_subject_keys') -- what producers do, and not the relay
   and not has_function_privilege(p.oid, 'execute')
 order by 1, 2
