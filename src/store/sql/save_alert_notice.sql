-- save_alert_notice: store the notice of a channel, after the fence. An alert that is gone meanwhile needs no memory.
-- $1 alert, $2 channel, $3 revision, $4 whether it says that the alert fires, $5 when, $6 the id of the first notice.
insert into alert_notices (alert, channel, revision, is_firing, sent_at, thread)
select $1, $2, $3, $4, $5, $6
 where exists (select 1 from alerts where key = $1)
    on conflict (alert, channel) do update
   set revision = excluded.revision, is_firing = excluded.is_firing, sent_at = excluded.sent_at, thread = excluded.thread
