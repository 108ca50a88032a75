-- list_keys_to_rewrap: keys of persons that are wrapped by another master key. Relies on subject_keys_pkey. No locks. $1 fingerprint, $2 after this subject, $3 at
-- most so many. Caller: cli::subjects.
select subject, key, wrapped, master from subject_keys
 where wrapped is not null and master <> $1 and subject > $2 order by subject limit $3
