//! `cargo bench`: the same measurements as `outboxd bench`, each figure beside a limit of the same run.
//! Arguments are passed on: `cargo bench -- drain --events 50000`.

use std::process::ExitCode;

use clap::Parser;
use outboxd::cli::{self, Cli};

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    // cargo adds `--bench` for harnesses; ours is none.
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    // The footprint starts this very program as a relay.
    let command: &[&str] = if given.first().is_some_and(|first| first == "run") { &["outboxd"] } else { &["outboxd", "bench"] };
    let cli = Cli::parse_from(command.iter().map(|word| (*word).to_owned()).chain(given));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime of a fresh process starts");
    runtime.block_on(cli::execute(cli))
}
