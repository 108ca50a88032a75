-- find_blind_spots: conditions that hide rows of the outbox from this session, or prevent a trigger from firing: each a way in which a committed event could
-- be passed over without an error. Reads catalogues only, locks nothing. No parameters. Caller: store::blind_spots.
with ours as materialized (
    select c.oid, c.relname::text as name, c.relkind, c.relpersistence
      from pg_class c
     where c.relnamespace = current_schema()::regnamespace
       and c.relname in ('events', 'subscriptions', 'deliveries', 'attempts', 'replays', 'replay_items', 'audit', 'incarnation', 'instances',
                         'alerts', 'alert_notices', 'alert_channels', 'alert_lease', 'dead_letter_notes', 'inbox',
                         'streams', 'stream_events', 'stream_states'))
select 'row_security' as kind, o.name, current_user::text as detail from ours o where o.relkind in ('r', 'p') and row_security_active(o.oid)
union all
select 'not_a_table', o.name, case o.relkind when 'v' then 'a view' when 'm' then 'a materialized view' when 'f' then 'a foreign table'
                                             when 'p' then 'a partitioned table' else 'no table' end
  from ours o where o.relkind <> 'r'
union all
select 'unlogged', o.name, '' from ours o where o.relkind = 'r' and o.relpersistence <> 'p'
union all
select 'rule', o.name, r.rulename from ours o join pg_rewrite r on r.ev_class = o.oid where o.relkind = 'r'
union all
select 'inheritance', o.name, format('%I.%I', c.relnamespace::regnamespace, c.relname)
  from ours o
  join pg_inherits i on o.oid in (i.inhparent, i.inhrelid)
  join pg_class c on c.oid in (i.inhparent, i.inhrelid) and c.oid <> o.oid
 where o.relkind = 'r'
union all
-- Bit 1 of the type: before; bit 0: for each row. One that gives null swallows the row.
select 'trigger', o.name, t.tgname
  from ours o join pg_trigger t on t.tgrelid = o.oid and not t.tgisinternal and t.tgenabled <> 'D'
 where t.tgtype & 3 = 3
union all
select 'subscribed', o.name, '' from ours o join pg_subscription_rel s on s.srrelid = o.oid
union all
select 'guard_off', 'events', g.name
  from (values ('refuse_truncate'), ('refuse_update'), ('refuse_foreign_tx'), ('forget_event')) g (name)
 where exists (select from ours o where o.name = 'events' and o.relkind = 'r')
   and not exists (select from ours o join pg_trigger t on t.tgrelid = o.oid
                    where o.name = 'events' and t.tgname = g.name and t.tgenabled in ('O', 'A'))
union all
select 'replica', 'session', current_setting('session_replication_role') where current_setting('session_replication_role') <> 'origin'
union all
select 'replica_preset', coalesce(quote_ident(r.rolname), ''), coalesce(quote_ident(d.datname), '')
  from pg_db_role_setting s
  left join pg_roles r on r.oid = s.setrole
  left join pg_database d on d.oid = s.setdatabase
 where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
   and exists (select from unnest(s.setconfig) c where lower(c) in ('session_replication_role=replica', 'session_replication_role=local'))
union all
select 'sequence', 'events_seq_seq',
       format('cache %s, increment %s%s', q.seqcache, q.seqincrement, case when q.seqcycle then ', cycle' else '' end)
  from pg_sequence q join pg_class c on c.oid = q.seqrelid
 where c.relnamespace = current_schema()::regnamespace and c.relname = 'events_seq_seq'
   and (q.seqcache <> 1 or q.seqincrement <> 1 or q.seqcycle)
 order by 1, 2, 3
