//! Mutations of `tests/mutants` have to apply to the source as it is: one that does not proves nothing until somebody runs it by hand.

use std::fs;

use super::source::root;

/// One stretch of a file that a patch changes.
struct Hunk {
    path: String,
    /// What has to be there: lines that stay and lines that go.
    before: String,
}

pub fn that_do_not_apply() -> Vec<String> {
    let folder = root().join("tests/mutants");
    let mut patches: Vec<_> = fs::read_dir(folder).expect("the mutations").flatten().map(|entry| entry.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    let mut violations = Vec::new();
    for patch in patches {
        let name = patch.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hunks = hunks(&fs::read_to_string(&patch).expect("a patch"));
        if hunks.is_empty() {
            violations.push(format!("tests/mutants/{name}: changes nothing"));
        }
        for Hunk { path, before } in hunks {
            let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
            if !text.contains(&before) {
                violations.push(format!("tests/mutants/{name}: does not apply to {path} any more; make it anew"));
            }
        }
    }
    violations
}

fn hunks(patch: &str) -> Vec<Hunk> {
    let (mut path, mut hunks) = (String::new(), Vec::<Hunk>::new());
    let mut is_inside = false;
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("--- a/") {
            path = name.to_owned();
            is_inside = false;
        } else if line.starts_with("@@ ") {
            hunks.push(Hunk { path: path.clone(), before: String::new() });
            is_inside = true;
        } else if line.starts_with("diff ") {
            is_inside = false;
        } else if let Some(hunk) = hunks.last_mut().filter(|_| is_inside)
            && let Some(kept) = line.strip_prefix([' ', '-'])
        {
            hunk.before.push_str(kept);
            hunk.before.push('\n');
        }
    }
    hunks
}
