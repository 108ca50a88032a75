-- read_alert_notices: the last notice of each alert to each channel. A small table. No parameters.
select alert, channel, revision, is_firing, sent_at, thread from alert_notices
