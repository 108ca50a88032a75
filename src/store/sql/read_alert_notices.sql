-- read_alert_notices: what each channel was last told of each alert. A small table. No parameters.
select alert, channel, revision, is_firing, sent_at, thread from alert_notices
