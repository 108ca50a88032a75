-- list_feed_epochs: the histories of the places, in order. A small table. No parameters.
select number, epoch, began_after, at, why, server from feed_epochs order by number
