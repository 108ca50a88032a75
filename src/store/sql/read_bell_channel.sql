-- read_bell_channel: the channel on which the insert trigger rings. A channel has 63 bytes at most, a schema may have as many: of a long one
-- the end is cut off everywhere alike. Two outboxes that share a channel wake one another for nothing, and that is all.
select left('outboxd_' || current_schema(), 63)
