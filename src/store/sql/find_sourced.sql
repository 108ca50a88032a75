-- find_sourced: which of these events are versions of streams. Relies on stream_events_seq_key. No locks. $1 seqs.
select seq from stream_events where seq = any ($1) order by seq
