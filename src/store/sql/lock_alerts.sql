-- lock_alerts: keep changes of operators out until the owner has written its own: both would be computed from the same row.
-- Locks the whole small table against writers, for milliseconds. No parameters.
lock table alerts in share row exclusive mode
