-- insert_replay: what was asked, by whom, how many. $1 id, $2 actor, $3 handler, $4 filter, $5 how many.
insert into replays (id, actor, handler, filter, asked) values ($1, $2, $3, $4::jsonb, $5)
