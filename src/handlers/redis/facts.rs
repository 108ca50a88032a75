//! Facts about a server from `INFO`: the commands that it has, and whether entries are safe with it. A server may refuse `INFO`;
//! then nothing is known, and only hints depend on it.

use std::collections::HashMap;

/// The facts about a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// For example `Redis 7.0.15`; `None`: it does not say.
    pub version: Option<String>,
    /// It knows an entry again that it was sent before (`XADD ... IDMP`).
    pub is_idempotent: bool,
    /// It copies another server, and what is written to it is lost or refused.
    pub is_replica: bool,
    /// Cautions for an operator who wants to keep entries, one phrase each.
    pub dangers: Vec<String>,
}

/// `IDMP` is there from this version of Redis on; its relatives count differently.
const IDEMPOTENT_FROM: (u32, u32) = (8, 6);

impl Facts {
    /// Reads the answer to `INFO`.
    pub fn read(info: &str) -> Self {
        let lines: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let (redis, valkey) = (lines.get("redis_version"), lines.get("valkey_version"));
        let version = valkey.map(|version| format!("Valkey {version}")).or(redis.map(|version| format!("Redis {version}")));
        let number = redis.filter(|_| valkey.is_none()).and_then(|version| number(version));
        Self {
            version,
            is_idempotent: number.is_some_and(|number| number >= IDEMPOTENT_FROM),
            is_replica: lines.get("role") == Some(&"slave"),
            dangers: dangers(&lines),
        }
    }
}

fn dangers(lines: &HashMap<&str, &str>) -> Vec<String> {
    let mut dangers = Vec::new();
    if lines.get("aof_enabled") == Some(&"0") {
        dangers.push("without an append-only file a crash loses what came since its last snapshot".to_owned());
    }
    if let Some(policy) = lines.get("maxmemory_policy").filter(|policy| policy.starts_with("allkeys")) {
        dangers.push(format!("maxmemory-policy {policy} throws streams away when memory is short"));
    }
    dangers
}

/// The first two parts of a version.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_idempotent_from_redis_8_6_on() {
        for (info, want) in [
            ("redis_version:8.6.0", true),
            ("redis_version:8.10.1", true),
            ("redis_version:9.0.0", true),
            ("redis_version:8.4.3", false),
            ("redis_version:7.0.15", false),
            ("redis_version:255.255.255", true), // what is built from an unreleased source says so
            ("redis_version:8.6.0\r\nvalkey_version:9.1.0", false),
            ("redis_version:new", false),
            ("", false),
        ] {
            assert_eq!(Facts::read(info).is_idempotent, want, "{info}");
        }
    }

    #[test]
    fn what_endangers_entries_is_told() {
        let facts = Facts::read(
            "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nmaxmemory_policy:allkeys-lru\r\n# Persistence\r\naof_enabled:0\r\n\
             # Replication\r\nrole:slave\r\n",
        );
        assert_eq!((facts.version.as_deref(), facts.is_replica, facts.dangers.len()), (Some("Redis 7.0.15"), true, 2));
        let safe = Facts::read("redis_version:7.0.15\nmaxmemory_policy:noeviction\naof_enabled:1\nrole:master");
        assert_eq!((safe.is_replica, safe.dangers.len()), (false, 0));
        assert_eq!(Facts::read(""), Facts::default());
    }
}
