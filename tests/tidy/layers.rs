//! Imports run downward only: each module uses strictly lower layers and itself, never a sibling of its own layer.

use crate::source::{Source, line_of};

/// Layer of every module below `src/`; a new one has to find its place here.
const LAYERS: &[(&str, u8)] = &[
    ("domain", 0),
    ("failpoints", 0),
    ("contracts", 1),
    ("settings", 1),
    ("telemetry", 1),
    ("launcher", 1),
    ("store", 2),
    ("handlers", 2),
    ("channels", 2),
    ("config", 2),
    ("relay", 3),
    ("rebase", 3),
    ("status", 3),
    ("uow", 3),
    ("api", 4),
    ("feed", 4),
    ("doctor", 4),
    ("forgetting", 4),
    ("registration", 4),
    ("hub", 5),
    ("operations", 5),
    ("management", 6),
    ("console", 7),
    ("app", 8),
    ("cli", 8),
];

/// Parts of one whole in spite of the rule: `cli` runs what `app` has wired; `channels` sign, encrypt and read answers as the
/// webhook handler does, and there is one home for that.
const PAIRS: &[(&str, &str)] = &[("cli", "app"), ("channels", "handlers")];

pub fn imports(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else { return vec![] };
    let Some(own) = layer(module) else {
        return vec![format!(": module `{module}` has no layer yet; give it one in tests/tidy/layers.rs")];
    };
    let mut violations = Vec::new();
    for (line, used) in uses(&source.code) {
        let allowed = used == module || PAIRS.contains(&(module, used)) || layer(used).is_none_or(|layer| layer < own);
        if !allowed {
            violations.push(format!(":{line}: `{module}` must not use `{used}`: imports run downward only"));
        }
    }
    violations
}

/// `src/store/connect.rs` is part of `store`, and so is `src/store.rs`; the front page and the binary may see everything.
fn module_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    (!matches!(name, "lib" | "main")).then_some(name)
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Line and module of every `crate::module` and of every `use crate::{module, ...}`.
fn uses(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let rest = &code[place + "crate::".len()..];
        let line = line_of(code, place);
        match rest.strip_prefix('{') {
            None => found.push((line, first_word(rest))),
            Some(group) => found.extend(group_heads(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The first names inside a `{...}` group, without those of nested groups.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut heads, mut depth, mut start) = (Vec::new(), 0, 0);
    for (place, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                heads.push(first_word(group[start..place].trim_start()));
                start = place + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

#[test]
fn an_import_from_the_side_or_from_above_is_found() {
    let found = |path: &str, text: &str| imports(&Source::new(path.to_owned(), text.to_owned())).len();
    assert_eq!(found("src/store/a.rs", "use crate::{domain::Event, handlers::{Kind, KINDS}, config};"), 2);
    assert_eq!(found("src/domain/a.rs", "fn a() { crate::store::connect() }"), 1);
    assert_eq!(found("src/relay/a.rs", "use crate::{store, relay::b, domain::{C}};"), 0);
    assert_eq!(found("src/store/a.rs", "#[cfg(test)]\nmod tests { use crate::config::Config; }"), 0);
    assert_eq!(found("src/unknown/a.rs", ""), 1);
}
