-- plan_rebase: the unfinished events of one handler, where transaction ids have started again. Reads the whole log once per partition.
-- Relies on the primary keys of events and deliveries. Locks nothing; behind lock_events it holds until the end of the transaction.
-- An event is finished by its row in deliveries, or if snapshot *and* number say that it lies behind the position. Three witnesses
-- against that: the stored snapshot (what was pending at the copy), the number (what came after it, from a sequence that was copied,
-- too), and the birth of the row: one written by a transaction of this server since the copy, even with a number used before.
-- `born here`: of a restored row tx is a number of the other server and xmin the restoring transaction; of a row written here tx is
-- at most xmin (above it by savepoints only), and later than the transaction that wrote the copied row of `incarnation`.
-- $1 handler. Returns one row per partition: where its window begins (null: nothing is pending), what is finished behind that
-- without a row, and, the same in each, how many events the handler is owed, by witness.
with next as materialized (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xid),
copied as materialized (
    select n.xid, n.xid - ((n.xid - i.xmin::text::bigint) & 4294967295) as at from next n left join incarnation i on true),
mine as materialized (select s.* from subscriptions s where s.handler = $1),
judged as materialized (
    select s.id, e.seq, wants(s, e) as is_wanted, d.seq is not null as has_row,
           not (pg_visible_in_snapshot(e.tx, s.snapshot)) as by_snapshot,
           e.seq > s.high_seq as by_number,
           coalesce(b.tx > c.at and b.tx <= c.xid - ((c.xid - b.born) & 4294967295), false) as is_born_here,
           coalesce(e.seq <@ s.done, false)
           or coalesce(e.seq <= s.window_seq and pg_visible_in_snapshot(e.tx, s.window_snapshot), false) as is_beyond
      from mine s
     cross join copied c
     cross join events e
     cross join lateral (select e.tx::text::bigint as tx, e.xmin::text::bigint as born) b
      left join deliveries d on d.subscription = s.id and d.seq = e.seq),
pending as materialized (
    select j.*, not has_row and (is_born_here or not is_beyond and (by_snapshot or by_number)) as is_pending from judged j),
islands as (
    select id, seq, is_pending, has_row, count(*) filter (where is_pending) over (partition by id order by seq) as island from pending),
ranges as (
    select id, int8range(min(seq), max(seq), '[]') as range from islands where not is_pending and not has_row and island > 0 group by id, island),
owed as (
    select seq, bool_or(by_snapshot and not is_beyond) as by_snapshot, bool_or(by_number and not is_beyond) as by_number, bool_or(is_born_here) as is_born_here
      from pending p
     where is_pending and is_wanted
       and not exists (select 1 from deliveries o where o.subscription in (select id from mine) and o.seq = p.seq)
     group by seq)
select m.id, m.partition,
       (select min(seq) - 1 from pending p where p.id = m.id and p.is_pending) as begins_after,
       (select range_agg(r.range)::text from ranges r where r.id = m.id) as done,
       (select count(*) from owed) as owed,
       (select count(*) from owed where by_snapshot) as by_snapshot,
       (select count(*) from owed where by_number) as by_number,
       (select count(*) from owed where is_born_here) as born_here,
       (select count(*) from deliveries d where d.subscription = m.id and d.state in ('retrying', 'waiting')) as unfinished
  from mine m
 order by m.partition
