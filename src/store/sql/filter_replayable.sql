-- filter_replayable: as filter_deliveries, and in no replay that goes on; taken in its place, no statement of its own.
-- Relies on replay_items_open.
{filter}
   and not exists (select 1 from replay_items i
                    where i.seq = d.seq and i.subscription = d.subscription and i.state in ('held', 'released'))
