//! What makes a release: workflows, scripts, and the places that have to agree.

use tokio::process::Command;

use super::{checker, read, root};
use crate::support::find_program;

const WORKFLOWS: &[&str] = &[".github/workflows/ci.yml", ".github/workflows/release.yml"];

#[tokio::test(flavor = "multi_thread")]
async fn the_workflows_and_scripts_pass_their_linters() {
    if let Some(actionlint) = checker("actionlint", &["--version"]).await {
        let files = WORKFLOWS.iter().map(|path| root().join(path));
        let output = Command::new(actionlint).args(files).current_dir(root()).output().await.expect("it was just found");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    if let Some(shellcheck) = find_program(&["shellcheck"], &["--version"]).await {
        let entries = std::fs::read_dir(root().join("scripts")).expect("the directory can be read");
        let scripts = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|kind| kind == "sh"));
        let output = Command::new(shellcheck).arg("--severity=warning").args(scripts).output().await.expect("it was just found");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A tag can be moved to other code; a commit cannot.
#[test]
fn every_action_is_pinned_to_a_commit_and_no_workflow_may_do_more_than_it_must() {
    let mut count = 0;
    for path in WORKFLOWS {
        let text = read(path);
        for line in text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (action, version) =
                line.split_once(" # ").unwrap_or_else(|| panic!("{path}: {line}: no version beside the commit"));
            let commit = action.split_once('@').map(|(_, commit)| commit).unwrap_or_default();
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{path}: {line}");
            assert!(version.starts_with('v'), "{path}: {line}");
            count += 1;
        }
        assert!(
            text.contains("\npermissions:\n  contents: read\n"),
            "{path}: the token may read and nothing else, unless a job says so"
        );
        assert_eq!(text.matches("actions/checkout@").count(), text.matches("persist-credentials: false").count(), "{path}");
    }
    assert!(count > 10);
}

#[test]
fn every_supported_major_of_postgres_is_tested() {
    let (workflow, script) = (read(WORKFLOWS[0]), read("scripts/test-matrix.sh"));
    let versions = script.lines().find_map(|line| line.trim().strip_prefix("set -- ")).expect("the list of versions");
    assert!(workflow.contains(&format!("[{}]", versions.replace(' ', ", "))), "{versions}");
    let majors: Vec<&str> = versions.split(' ').filter_map(|version| version.split_once('.')).map(|(major, _)| major).collect();
    assert_eq!(majors, ["14", "15", "16", "17", "18"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_without_notes_is_refused() {
    let notes = |version: &'static str| {
        let script = root().join("scripts/release-notes.sh");
        async move { Command::new("sh").arg(script).arg(version).output().await.expect("sh starts") }
    };
    let missing = notes("99.0.0").await;
    assert!(!missing.status.success() && missing.stdout.is_empty());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("has no section \"## [99.0.0]\""), "{missing:?}");
    let there = notes("Unreleased").await;
    let text = String::from_utf8_lossy(&there.stdout);
    assert!(there.status.success() && text.contains("### Added") && !text.contains("\n## "), "{text}");
}
