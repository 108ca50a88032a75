-- raise_sequences: no number that is taken is given out again, after a restore that left the sequences behind. Never lowers one;
-- not undone by a rollback, which does no harm. Reads small tables and the end of an index. No parameters. Returns those raised.
select s.name::text as name, setval(s.name, s.needed) as now_at
  from (select 'events_seq_seq'::regclass as name, (select case when is_called then last_value else 0 end from events_seq_seq) as last,
               greatest((select max(seq) from events),
                        (select max(greatest(high_seq, window_high_seq)) from subscriptions)) as needed
        union all
        select 'subscriptions_id_seq', (select case when is_called then last_value else 0 end from subscriptions_id_seq),
               (select max(id) from subscriptions)
        union all
        select 'audit_id_seq', (select case when is_called then last_value else 0 end from audit_id_seq),
               (select max(id) from audit)
        union all
        select 'streams_id_seq', (select case when is_called then last_value else 0 end from streams_id_seq),
               (select max(id) from streams)) s
 where s.needed > s.last
