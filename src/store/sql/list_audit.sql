-- list_audit: the acts of operators, the newest first. Backwards on the primary key of a table that grows by one row per act. Locks nothing.
-- $1 actor, $2 action, $3 handler, $4 road (null: any), $5 number of the last row of the page before (null: the first page), $6 rows.
select id, at, actor, action, handler, filter::text as filter, affected, reason, via
  from audit
 where ($5::bigint is null or id < $5)
   and ($1::text is null or actor = $1)
   and ($2::text is null or action = $2)
   and ($3::text is null or handler = $3)
   and ($4::text is null or via = $4)
 order by id desc
 limit $6
