-- read_bell_channel: the channel on which the insert trigger rings.
select 'outboxd_' || current_schema()
