-- remove_replay_items: remove a chunk of the set of a replay that ended long ago; the replay itself stays, with its outcome.
-- Relies on the primary keys. Waits for no lock. $1 microseconds to keep, $2 rows. Returns how many went.
with ended as (
    select r.id
      from replays r
     where r.delivered is not null and r.ended_at < clock_timestamp() - $1 * interval '1 microsecond'
       and (select i.seq from replay_items i where i.replay = r.id order by i.subscription, i.seq limit 1) is not null
     limit 1),
gone as (
    delete from replay_items
     where ctid = any (array(select i.ctid from replay_items i where i.replay = (select id from ended) limit $2 for update skip locked))
    returning 1)
select count(*) from gone
