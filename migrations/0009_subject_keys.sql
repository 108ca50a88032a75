-- 0009_subject_keys: keys of persons, under which shredded values are encrypted. Empty, and never written, unless an application records shredded
-- values. Runs with search_path set to the outbox schema, in one transaction. Creates only; locks no table that exists.

-- One row for each subject. The row stays when the key is destroyed: it is what tells a forgotten value from one whose key is missing.
create table subject_keys (
    subject      text        primary key check (subject <> '' and octet_length(subject) <= 1000),
    -- Id of the key; envelopes name it.
    key          uuid        not null,
    -- The key, encrypted by the master key with this fingerprint, which is not in the database. Null: destroyed.
    wrapped      bytea,
    master       text,
    created_at   timestamptz not null default clock_timestamp(),
    destroyed_at timestamptz,
    -- An `outboxd forget` went through all tables after the key was destroyed.
    walked_at    timestamptz,
    check ((wrapped is null) = (destroyed_at is not null)),
    check ((wrapped is null) = (master is null)),
    check (walked_at is null or destroyed_at is not null)
);
comment on table subject_keys is 'Keys of persons for shredded values. Destroyed by outboxd forget.';

-- Gives the keys of subjects to a transaction that encrypts under them, the given ones to subjects without a row. Locks the rows until the transaction ends, so
-- that a key is destroyed before or after it and never within it. Definer, so that an application needs no right to change the table.
do $$
begin
    execute format($create$
create function use_subject_keys(subjects text[], keys uuid[], wrapped_keys bytea[], master_key text)
    returns setof %1$I.subject_keys language plpgsql security definer set search_path = pg_catalog, pg_temp as $use$
begin
    insert into %1$I.subject_keys (subject, key, wrapped, master)
    select n.subject, n.key, n.wrapped, master_key from unnest(subjects, keys, wrapped_keys) as n (subject, key, wrapped)
     order by n.subject collate "C"
        on conflict (subject) do nothing;
    return query select k.* from %1$I.subject_keys k where k.subject = any (subjects) order by k.subject collate "C" for share;
end $use$
$create$, current_schema());
end $$;
revoke execute on function use_subject_keys(text[], uuid[], bytea[], text) from public;
