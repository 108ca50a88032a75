-- check_bell: whether lock, channel and trigger of the bell belong together and to the schema as it is called now. No parameters.
select bell_key() = hashtextextended('outboxd bell ' || current_schema(), 0)
       and exists (select 1 from pg_proc p
                    where p.pronamespace = current_schema()::regnamespace and p.proname = 'ring_bell'
                      and strpos(p.prosrc, quote_literal(left('outboxd_' || current_schema(), 63))) > 0)
       and exists (select 1 from pg_trigger t
                    where t.tgrelid = 'events'::regclass and t.tgname = 'ring_bell' and t.tgenabled in ('O', 'A')
                      and strpos(replace(pg_get_triggerdef(t.oid), '''', ''), '(' || bell_key()) > 0)
