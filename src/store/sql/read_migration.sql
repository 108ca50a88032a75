-- read_migration: the checksum with which a migration was applied. $1 version.
select checksum from migrations where version = $1
