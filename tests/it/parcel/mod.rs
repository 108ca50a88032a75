//! What is shipped beside the binary: charts, units, workflows, scripts. Checked by the programs that will read them (Helm, kubectl, systemd,
//! actionlint, shellcheck), and against the product: a grace period has to be as long as a drain really takes.

mod kubernetes;
mod release;
mod systemd;

use std::path::{Path, PathBuf};

use crate::support::find_program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program of tests/parcel/requirements.txt, if it is here.
async fn checker(name: &str, arguments: &[&str]) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/outboxd/tools"));
    let tools = std::env::var_os("OUTBOXD_TOOLS").map(PathBuf::from).or(home).unwrap_or_default();
    find_program(&[&tools.join("parcel-1/bin").join(name).to_string_lossy()], arguments).await
}
