//! The counterpart of the kind `exec`: a program that appends id and payload to a file, started for each event or living on. Without
//! its file it cannot be started, and workers that live end with the next event.

use std::path::PathBuf;
use std::process::Command;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use super::{Arrived, Counterpart};

/// One append per event, so that nothing of two events is mixed.
const ONCE: &str = r#"#!/bin/sh
printf '%s\t%s\n' "$OUTBOXD_EVENT_ID" "$(cat)" >> "${0%/*}/arrived"
"#;

/// Takes the line apart without starting anything: the id is first, the payload last.
const WORKER: &str = r#"#!/bin/sh
while read -r line; do
    [ -e "$0" ] || exit 1
    id=${line#*:\"}; id=${id%%\"*}
    body=${line##*\"payload\":}
    printf '%s\t%s\n' "$id" "${body%?}" >> "${0%/*}/arrived"
    printf '{"id":"%s","status":"delivered"}\n' "$id"
done
"#;

pub struct Programs {
    directory: TempDir,
    settings: &'static str,
}

impl Programs {
    pub fn once() -> Self {
        Self::new(ONCE, "input = \"payload\"")
    }

    pub fn worker() -> Self {
        Self::new(WORKER, "mode = \"worker\"")
    }

    fn new(script: &str, settings: &'static str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let programs = Self { directory, settings };
        let source = programs.directory.path().join("source");
        std::fs::write(&source, script).expect("the folder is ours");
        // Copied by another process: what a test starts meanwhile would inherit a file that we write to, and the system starts no
        // program that somebody writes to.
        let installed = Command::new("install").args(["-m", "755"]).arg(&source).arg(programs.program()).status();
        assert!(installed.expect("install is everywhere").success());
        programs
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("program")
    }

    fn away(&self) -> PathBuf {
        self.directory.path().join("away")
    }
}

impl Counterpart for Programs {
    fn settings(&self) -> String {
        format!("command = [\"{}\"]\n{}", self.program().display(), self.settings)
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        let text = std::fs::read_to_string(self.directory.path().join("arrived")).unwrap_or_default();
        let parts = |line: &str| line.split_once('\t').map(|(id, body)| Arrived { id: id.to_owned(), body: body.to_owned() });
        let all = text.lines().map(|line| parts(line).unwrap_or_else(|| panic!("{line:?} is whole"))).collect();
        async { all }.boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { std::fs::rename(self.program(), self.away()).expect("it was there") }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { std::fs::rename(self.away(), self.program()).expect("it was there") }.boxed()
    }
}
