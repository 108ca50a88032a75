//! `outboxd --version`: the version, and the kinds of handlers in this build.

use std::sync::LazyLock;

use crate::handlers::{KINDS, OPTIONAL_KINDS, kind};

/// The version, then the kinds; a separate line names the kinds that this build lacks.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let left_out: Vec<&str> = OPTIONAL_KINDS.iter().copied().filter(|name| kind(name).is_none()).collect();
        describe(&kinds, &left_out)
    });
    &TEXT
}

fn describe(kinds: &[&str], left_out: &[&str]) -> String {
    let mut text = format!("{}\nkinds: {}", env!("CARGO_PKG_VERSION"), kinds.join(" "));
    if !left_out.is_empty() {
        text.push_str(&format!("\nnot in this build, each a cargo feature: {}", left_out.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(describe(&["webhook", "exec"], &[]), format!("{version}\nkinds: webhook exec"));
        assert_eq!(
            describe(&["webhook"], &["nats", "mqtt"]),
            format!("{version}\nkinds: webhook\nnot in this build, each a cargo feature: nats mqtt")
        );
    }
}
