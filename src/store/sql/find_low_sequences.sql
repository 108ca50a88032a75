-- find_low_sequences: sequences whose next number is used already; raise_sequences would raise them. One that this role may
-- not look at is not told. Reads small tables and the end of an index. No parameters.
select s.name, s.last, s.needed
  from (select n.name,
               case when has_sequence_privilege(q.oid, 'select')
                    then coalesce((select p.last_value from pg_sequences p
                                    where p.schemaname = current_schema() and p.sequencename = n.name), 0) end as last,
               n.needed
          from (values ('events_seq_seq', greatest((select max(seq) from events),
                                                   (select max(greatest(high_seq, window_high_seq)) from subscriptions))),
                       ('subscriptions_id_seq', (select max(id)::bigint from subscriptions)),
                       ('audit_id_seq', (select max(id) from audit)),
                       ('streams_id_seq', (select max(id) from streams))) n (name, needed)
          join pg_class q on q.relname = n.name and q.relnamespace = current_schema()::regnamespace) s
 where s.needed > s.last
 order by s.name
