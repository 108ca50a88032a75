-- beat_instance: record that this relay lives, forget those silent for a day, and read the number of the last requested reload.
-- $1 id, $2 host, $3 pid, $4 version.
with forgotten as (delete from instances where seen_at < clock_timestamp() - interval '1 day' and id <> $1)
insert into instances (id, host, pid, version) values ($1, $2, $3, $4)
    on conflict (id) do update set seen_at = clock_timestamp()
returning reload_asked
