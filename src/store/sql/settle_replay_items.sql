-- settle_replay_items: record the outcomes of released items, in the transaction of the flush. Relies on deliveries_pkey, and on
-- replay_items_open or replay_items_unfinished.
-- $1 subscription, $2 seqs whose outcome was just recorded.
update replay_items i
   set state = case d.state when 'delivered' then 'delivered' else 'failed' end::replay_item_state, ended_at = clock_timestamp()
  from deliveries d
 where d.subscription = $1 and d.seq = any ($2) and d.state in ('delivered', 'dead')
   and i.seq = d.seq and i.subscription = $1 and i.replay = d.replay and i.state = 'released'
