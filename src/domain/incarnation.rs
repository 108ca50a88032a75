//! The incarnation: whether the server that answers is the one that the stored positions belong to. Decides from what was read;
//! reads nothing.
//!
//! A position names transaction ids (xid) and sequence numbers, which mean something on one server only. The relay compares at
//! the start and in each lease round:
//!
//! - the system identifier and the database: another cluster, or another database of the same cluster, is refused until `outboxd
//!   rebase`;
//! - the timeline: a starting relay refuses a new timeline, a running one follows it (`relay::supervisor::places` says why);
//! - the row in `incarnation`: a dump that is restored in place, or beside the original, keeps the system identifier. The row
//!   therefore stores what a copy cannot keep: the number of its own table, and the transactions that wrote it and `migrations`;
//! - the next transaction id: if a position knows a higher one, the ids began anew;
//! - the sequence of the events: if a position knows a higher number, numbers will be given out a second time, and an event with
//!   a used number would count as one that has an outcome. A read that finds the sequence below that of its head refuses, too
//!   (`relay::reader`). A rebase raises the sequence and gives such events new numbers.
//!
//! `tx`, `seq` and `id` of an event never change. Triggers of the log (migration 3) refuse an update, a truncate and a foreign
//! `tx`; their conditions cost a good row no function call. outboxd passes them with the setting `outboxd.changes_log` where it
//! removes or renumbers events itself: retention, erasure, rebase.

use std::fmt;

/// A cluster, its timeline and a database in it: positions of one mean nothing in another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Incarnation {
    pub system_identifier: i64,
    pub timeline: String,
    /// Number of the database in its cluster: a second one beside the first is a copy, however alike.
    pub database: i64,
}

/// The identity of the server, and the stored one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `None`: the server is a standby.
    pub found: Option<Incarnation>,
    /// The server that the stored positions belong to; `None`: nothing was stored yet.
    pub stored: Option<Incarnation>,
    /// The stored row was not written here: it came by a dump, by logical replication, or by an edit.
    pub is_copied: bool,
    /// The first transaction number that this server has not given out.
    pub next_transaction: i64,
    /// The highest transaction number that a stored position knows of.
    pub highest_known: i64,
    /// The sequence of the events as it stands now.
    pub last_seq: i64,
    /// The highest number of an event that a stored position knows of.
    pub highest_seq: i64,
}

/// How the server stands to the stored positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No relay has run yet: there are no positions to be wrong about.
    Fresh,
    /// It is the one.
    Ours,
    Standby,
    /// Promoted, recovered to a moment, or a clone: the same numbers, but perhaps not the server to publish from.
    NewTimeline {
        stored: Incarnation,
        found: Incarnation,
    },
    /// Restored or copied into another cluster, or upgraded into it.
    OtherCluster {
        stored: Incarnation,
        found: Incarnation,
    },
    /// Restored or copied inside its own cluster.
    Copied {
        stored: Incarnation,
        found: Incarnation,
    },
    /// The positions know transactions that this server has not begun: its numbers began anew.
    Renumbered {
        next: i64,
        known: i64,
    },
    /// The sequence of the events stands below what the positions have seen: numbers are given out a second time.
    NumberedAgain {
        last: i64,
        known: i64,
    },
}

/// Whether the transaction ids of the stored positions are valid here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbering {
    /// They mean the same as when they were stored: a file copy, a promoted standby, an upgrade in place.
    Continues,
    /// Nothing: the rows were written anew, by transactions of this server.
    BeganAnew,
}

impl ServerIdentity {
    /// How the server stands to what is stored.
    pub fn standing(&self) -> Standing {
        let Some(found) = self.found.clone() else { return Standing::Standby };
        let Some(stored) = self.stored.clone() else { return Standing::Fresh };
        if stored.system_identifier != found.system_identifier {
            Standing::OtherCluster { stored, found }
        } else if stored.database != found.database || self.is_copied {
            Standing::Copied { stored, found }
        } else if self.is_renumbered() {
            Standing::Renumbered { next: self.next_transaction, known: self.highest_known }
        } else if self.highest_seq > self.last_seq {
            Standing::NumberedAgain { last: self.last_seq, known: self.highest_seq }
        } else if stored.timeline != found.timeline {
            Standing::NewTimeline { stored, found }
        } else {
            Standing::Ours
        }
    }

    /// Whether the stored numbers still mean what they meant.
    pub fn numbering(&self) -> Numbering {
        if self.is_copied || self.is_renumbered() { Numbering::BeganAnew } else { Numbering::Continues }
    }

    /// A position is a snapshot that this server has taken, so it cannot know more than the server does.
    fn is_renumbered(&self) -> bool {
        self.highest_known > self.next_transaction
    }
}

impl Incarnation {
    /// Whether it is the same cluster as it was before a failover. Timelines have one width, so their texts are in their order.
    pub fn is_before(&self, other: &Self) -> bool {
        self.system_identifier == other.system_identifier && self.timeline < other.timeline
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {}, timeline {}, database {}", self.system_identifier, self.timeline, self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(change: impl FnOnce(&mut Incarnation)) -> Incarnation {
        let mut incarnation = Incarnation { system_identifier: 1, timeline: "00000001".to_owned(), database: 5 };
        change(&mut incarnation);
        incarnation
    }

    fn identity(change: impl FnOnce(&mut ServerIdentity)) -> ServerIdentity {
        let mut identity = ServerIdentity {
            found: Some(incarnation(|_| ())),
            stored: Some(incarnation(|_| ())),
            is_copied: false,
            next_transaction: 900,
            highest_known: 900,
            last_seq: 70,
            highest_seq: 70,
        };
        change(&mut identity);
        identity
    }

    #[test]
    fn an_older_timeline_of_the_same_cluster_is_before_it() {
        let promoted = incarnation(|i| i.timeline = "0000000A".to_owned());
        assert!(incarnation(|_| ()).is_before(&promoted) && !promoted.is_before(&incarnation(|_| ())));
        assert!(!promoted.is_before(&promoted));
        assert!(!incarnation(|i| i.system_identifier = 2).is_before(&promoted));
    }

    #[test]
    fn only_the_server_that_was_stored_is_ours() {
        use Numbering::{BeganAnew, Continues};
        let stored = |change: fn(&mut Incarnation)| identity(|identity| identity.stored = Some(incarnation(change)));
        type Case = (&'static str, ServerIdentity, fn(&Standing) -> bool, Numbering);
        let table: Vec<Case> = vec![
            ("the same", identity(|_| ()), |s| *s == Standing::Ours, Continues),
            ("never used", identity(|i| i.stored = None), |s| *s == Standing::Fresh, Continues),
            ("a standby", identity(|i| i.found = None), |s| *s == Standing::Standby, Continues),
            ("promoted", stored(|i| i.timeline = "00000002".into()), |s| matches!(s, Standing::NewTimeline { .. }), Continues),
            ("upgraded", stored(|i| i.system_identifier = 2), |s| matches!(s, Standing::OtherCluster { .. }), Continues),
            ("a template copy", stored(|i| i.database = 6), |s| matches!(s, Standing::Copied { .. }), Continues),
            ("restored in place", identity(|i| i.is_copied = true), |s| matches!(s, Standing::Copied { .. }), BeganAnew),
            (
                "restored elsewhere",
                identity(|i| {
                    i.stored = Some(incarnation(|i| i.system_identifier = 2));
                    i.is_copied = true;
                }),
                |s| matches!(s, Standing::OtherCluster { .. }),
                BeganAnew,
            ),
            (
                "numbers that are not given out yet",
                identity(|i| i.highest_known = 901),
                |s| *s == Standing::Renumbered { next: 900, known: 901 },
                BeganAnew,
            ),
            (
                "event numbers that run backwards",
                identity(|i| i.last_seq = 69),
                |s| *s == Standing::NumberedAgain { last: 69, known: 70 },
                Continues,
            ),
        ];
        for (name, identity, is_expected, numbering) in table {
            let standing = identity.standing();
            assert!(is_expected(&standing), "{name}: {standing:?}");
            assert_eq!(identity.numbering(), numbering, "{name}");
        }
    }
}
