-- find_low_sequences: sequences that would give out a number that is taken; what raise_sequences would raise. No parameters.
select s.name::text as name, s.last, s.needed
  from (select 'events_seq_seq'::regclass as name, (select case when is_called then last_value else 0 end from events_seq_seq) as last,
               greatest((select max(seq) from events),
                        (select max(greatest(high_seq, window_high_seq)) from subscriptions)) as needed
        union all
        select 'subscriptions_id_seq', (select case when is_called then last_value else 0 end from subscriptions_id_seq),
               (select max(id) from subscriptions)
        union all
        select 'audit_id_seq', (select case when is_called then last_value else 0 end from audit_id_seq),
               (select max(id) from audit)) s
 where s.needed > s.last
 order by s.name::text
