-- count_streams: streams, and versions of them all. Reads both tables; an operator asks for it. No locks. No parameters.
select (select count(*) from streams) as streams, (select count(*) from stream_events) as versions
