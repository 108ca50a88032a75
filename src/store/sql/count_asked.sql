-- count_asked: note how many deliveries a replay was frozen with. $1 replay, $2 how many.
update replays set asked = $2 where id = $1
