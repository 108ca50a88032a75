-- trim_attempts: of each delivery keep the first five and the last twenty tries. Relies on attempts_by_delivery.
-- $1 subscription, $2 seqs.
delete from attempts
 where ctid = any (array(
       select ctid
         from (select ctid, row_number() over (partition by seq order by at) as place,
                      row_number() over (partition by seq order by at desc) as place_from_end
                 from attempts where subscription = $1 and seq = any ($2::bigint[])) numbered
        where place > 5 and place_from_end > 20))
