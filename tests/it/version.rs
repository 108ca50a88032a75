//! `outboxd --version`, and what is said about a kind that the binary does not have.

use outboxd::handlers::{KINDS, OPTIONAL_KINDS, kind};

use crate::support::Binary;

#[tokio::test]
async fn the_binary_says_which_kinds_it_has() {
    let binary = Binary::with_config("");
    let long = binary.run(&["--version"]).await;
    assert_eq!(long.code, Some(0), "{long:?}");
    let mut lines = long.stdout.lines();
    assert_eq!(lines.next(), Some(concat!("outboxd ", env!("CARGO_PKG_VERSION"))));
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(lines.next(), Some(format!("kinds: {}", kinds.join(" ")).as_str()));
    let short = binary.run(&["-V"]).await;
    assert_eq!(short.stdout, concat!("outboxd ", env!("CARGO_PKG_VERSION"), "\n"), "for scripts");
}

#[tokio::test]
async fn a_kind_that_was_left_out_is_told_with_its_feature() {
    for left_out in OPTIONAL_KINDS.iter().filter(|name| kind(name).is_none()) {
        let entry = format!("[[handlers]]\nname = \"x\"\nkind = \"{left_out}\"");
        let checked = Binary::relay("postgres://app@127.0.0.1/none", &entry).run(&["check"]).await;
        assert_eq!(checked.code, Some(64), "{checked:?}");
        let text = checked.stdout + &checked.stderr;
        assert!(text.contains(&format!("build it with the cargo feature \"{left_out}\"")), "{text}");
        let version = Binary::with_config("").run(&["--version"]).await;
        assert!(version.stdout.lines().nth(2).is_some_and(|line| line.contains(left_out)), "{version:?}");
    }
}
