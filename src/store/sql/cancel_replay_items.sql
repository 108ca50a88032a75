-- cancel_replay_items: what has not left stays; its deliveries were never changed. Runs behind cancel_replay. $1 replay.
update replay_items set state = 'cancelled', ended_at = clock_timestamp() where replay = $1 and state = 'held'
