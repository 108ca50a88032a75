-- record_moment: note which transactions are finished now, unless another relay has done so within the interval, and forget the moments
-- whose time is over. The first of an hour is kept for 60 days, the first of a minute for a day, any other for an hour. `at` is taken
-- before the snapshot, so transactions that the snapshot does not see committed later. Relies on the primary key and moments_by_end. $1 interval in microseconds.
with gone as (delete from moments where keep_until < statement_timestamp()),
now as (select statement_timestamp() as at)
insert into moments (at, snapshot, high_seq, keep_until)
select now.at, pg_current_snapshot(), last_seq(),
       now.at + case when (select m.at from moments m order by m.at desc limit 1) >= date_trunc('minute', now.at) then interval '1 hour'
                     when (select m.at from moments m order by m.at desc limit 1) >= date_trunc('hour', now.at) then interval '1 day'
                     else interval '60 days' end
  from now
 where coalesce((select m.at from moments m order by m.at desc limit 1) < now.at - $1 * interval '1 microsecond', true)
    on conflict (at) do nothing
