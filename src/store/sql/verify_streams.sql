-- verify_streams: the faults in the tables of streams, one row per stream and fault with the first version that it concerns and how many there are.
-- Reads them all, and the event of each version; an operator asks for it. No locks. $1 rows at most.
with versions as (
    select v.stream, v.version, v.version - 1 - coalesce(lag(v.version) over (partition by v.stream order by v.version), 0) as missing_before,
           e.seq is null as is_without_event,
           e.seq is not null and (e.aggregate_type, e.aggregate_id, e.aggregate_version) is distinct from (s.type, s.key, v.version) as is_foreign
      from stream_events v
      left join streams s on s.id = v.stream
      left join events e on e.seq = v.seq),
counted as (
    select stream, count(*) as versions, max(version) as last,
           min(version - missing_before) filter (where missing_before > 0) as first_gap, sum(missing_before)::bigint as missing,
           min(version) filter (where is_without_event) as first_without_event, count(*) filter (where is_without_event) as without_event,
           min(version) filter (where is_foreign) as first_foreign, count(*) filter (where is_foreign) as foreign_events
      from versions group by stream),
faults as (
    select c.stream, 'gap' as fault, c.first_gap as version, c.missing as count from counted c where c.missing > 0
    union all
    select c.stream, 'no_event', c.first_without_event, c.without_event from counted c where c.without_event > 0
    union all
    select c.stream, 'other_event', c.first_foreign, c.foreign_events from counted c
      join streams s on s.id = c.stream where c.foreign_events > 0
    union all
    select s.id, 'head', s.version, abs(s.version - coalesce(c.last, 0))
      from streams s left join counted c on c.stream = s.id where s.version is distinct from c.last
    union all
    select c.stream, 'no_stream', 1, c.versions from counted c where not exists (select from streams s where s.id = c.stream)
    union all
    select k.stream, 'state', k.version, 1
      from stream_states k left join streams s on s.id = k.stream where s.id is null or k.version > s.version)
select f.stream, s.type, s.key, f.fault, f.version, f.count
  from faults f left join streams s on s.id = f.stream
 order by s.type, s.key, f.stream, f.fault limit $1
