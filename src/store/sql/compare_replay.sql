-- compare_replay: whether the replay of an id asks for the same. No row: there is none. Runs behind lock_replays. $1 id, $2 filter, $3 note,
-- $4 deliveries a second.
select filter = $2::jsonb and note is not distinct from $3 and rate is not distinct from $4 from replays where id = $1
