-- 0007_operations: who acted on which road, and dead letters and the audit read by pages.
-- Runs with search_path set to the outbox schema, in one transaction. Builds an index anew; removes no row and no column.

-- cli, api or console. What was written before came from the CLI.
alter table audit add column via text not null default 'cli';

-- A page of dead letters goes on behind (handled_at, seq). Letters of one flush share their moment; without `seq` each page would sort all of them.
drop index deliveries_dead;
create index deliveries_dead on deliveries (subscription, handled_at, seq) where state = 'dead';

-- Replays are listed the newest first.
create index replays_by_time on replays (at, id);
