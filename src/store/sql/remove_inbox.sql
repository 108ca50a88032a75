-- remove_inbox: a chunk of the marks of receivers that are older than any delivery that may still come. Relies on inbox_by_age. Waits for
-- nobody. The time is a scalar subquery, as in read_due. $1 microseconds to keep, $2 rows. Returns how many went.
with gone as (
    delete from inbox
     where ctid = any (array(select i.ctid from inbox i where i.handled_at < (select clock_timestamp() - $1 * interval '1 microsecond')
                              order by i.handled_at limit $2 for update skip locked))
    returning 1)
select count(*) from gone
