-- remove_alert: forget an alert and what was told of it, after the fence. $1 key.
delete from alerts where key = $1
