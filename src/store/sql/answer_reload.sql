-- answer_reload: the result of a reload. $1 id, $2 which request it answers (null: none in the database), $3 the answer.
update instances
   set reload_answered = coalesce($2, reload_answered), reloaded_at = clock_timestamp(), reload = $3
 where id = $1
