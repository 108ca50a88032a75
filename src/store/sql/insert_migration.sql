-- insert_migration: remember a migration, in its own transaction. $1 version, $2 name, $3 checksum.
insert into migrations (version, name, checksum) values ($1, $2, $3)
