-- lock_replays: one replay at a time, until the end of the transaction; two of one key could both make theirs the first.
-- Readers are not held up. A statement of its own: the next one must see what the replay before us has committed.
lock table replays in share row exclusive mode
