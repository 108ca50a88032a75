-- remove_alert: forget an alert and its notices, after the fence. $1 key.
delete from alerts where key = $1
