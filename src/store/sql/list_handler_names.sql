-- list_handler_names: the handlers that have a subscription. A small table. $1 rows.
select distinct handler from subscriptions order by handler limit $1
