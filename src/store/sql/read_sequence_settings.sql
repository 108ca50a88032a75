-- read_sequence_settings: how the sequence of the events gives out its numbers. Readable by any role.
select seqcache, seqincrement, seqcycle from pg_sequence where seqrelid = 'events_seq_seq'::regclass
