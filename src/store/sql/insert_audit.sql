-- insert_audit: record an act of an operator, in the transaction of the act. $1 actor, $2 action, $3 handler, $4 filter, $5 how many, $6 why,
-- $7 the road: cli, api or console.
insert into audit (actor, action, handler, filter, affected, reason, via) values ($1, $2, $3, $4::jsonb, $5, $6, $7)
