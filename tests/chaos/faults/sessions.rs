//! Sessions of one relay that the server ends, as an administrator or a failing network does: those that read, those that record, the
//! one that listens, all of them. Or all of them while somebody has given the relay's role settings that no relay can work with.

use fastrand::Rng;
use sqlx::AssertSqlSafe;

use super::{Leaves, Target, World, last};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Reader,
    Recorder,
    Listener,
    All,
    /// All of them, and the next ones begin with hostile settings.
    Hostile,
}

/// What `alter role` can do to a session that relies on the server's defaults.
const HOSTILE: [(&str, &str); 14] = [
    ("search_path", "pg_catalog"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("quote_all_identifiers", "on"),
    ("row_security", "on"),
    ("client_encoding", "'LATIN1'"),
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "'iso_8601'"),
    ("bytea_output", "'escape'"),
    ("timezone", "'Pacific/Chatham'"),
    ("extra_float_digits", "-15"),
    ("statement_timeout", "1"),
    ("lock_timeout", "1"),
];

impl Which {
    pub const ALL: [Self; 5] = [Self::Reader, Self::Recorder, Self::Listener, Self::All, Self::Hostile];

    /// Our statements begin with their names.
    fn condition(self) -> &'static str {
        match self {
            Self::Reader => "query like '-- read\\_%' or query like '-- open\\_%' or query like '-- find\\_%'",
            Self::Recorder => {
                "query like '-- record\\_%' or query like '-- insert\\_%' or query like '-- count\\_%' or query ilike 'commit%'"
            }
            Self::Listener => "query ~* '(listen|bell)'",
            Self::All | Self::Hostile => "true",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reader => "sessions: readers ended",
            Self::Recorder => "sessions: recorders ended",
            Self::Listener => "sessions: listener ended",
            Self::All => "sessions: all ended",
            Self::Hostile => "sessions: begun with hostile settings",
        }
    }
}

/// Tries again and again for a while: what a session does last is a matter of milliseconds.
pub async fn apply(world: &World, place: usize, which: Which, rng: &mut Rng) {
    let _peace = world.fleet.read().await;
    let began = world.clock.now();
    if which == Which::Hostile {
        for (name, value) in HOSTILE {
            world.database.execute(&format!("alter role relay_{place} set {name} = {value}")).await;
        }
    }
    let sql = format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'relay_{place}' and ({})",
        which.condition()
    );
    let mut ended = 0;
    for _ in 0..40 {
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone())).fetch_one(&world.database.pool).await;
        ended += count.unwrap_or(0); // the server may be down itself
        if ended > 0 {
            break;
        }
        last(rng, 20..60).await;
    }
    if ended > 0 {
        world.note(which.name(), Target::Relay(place as u8), Leaves::LostOutcomes, began);
    } else {
        world.miss(which.name());
    }
    if which == Which::Hostile {
        last(rng, 2_000..5_000).await;
        // Sessions that have begun meanwhile keep what they were given.
        world.database.execute(&format!("alter role relay_{place} reset all")).await;
    }
    last(rng, 0..800).await;
}
