-- insert_replay: record the request for a replay, its operator and rate. The set follows with freeze_replay. $1 id, $2 actor, $3 handler, $4 filter, $5 note,
-- $6 deliveries a second (null: no limit).
insert into replays (id, actor, handler, filter, note, rate) values ($1, $2, $3, $4::jsonb, $5, $6)
