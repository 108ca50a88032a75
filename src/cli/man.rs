//! `outboxd man`: manual pages in the text of `--help`, one for each command, for packages. Needs no file and no database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use serde_json::json;

use super::print::print;
use super::{Cli, CliError, EXIT_OK, Global};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outboxd man /usr/local/share/man/man1
  outboxd man pages && man pages/outboxd-replay.1

The command writes outboxd.1 and a page for each command, such as outboxd-replay.1. It replaces pages of the same names.")]
pub struct ManArgs {
    /// Directory for the pages; it is created if it does not exist
    pub directory: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("could not write the manual pages to {}", directory.display())]
struct Unwritable {
    directory: PathBuf,
    #[source]
    cause: std::io::Error,
}

pub fn run(args: &ManArgs, global: &Global) -> Result<ExitCode, CliError> {
    let directory = &args.directory;
    write(directory).map_err(|cause| CliError::failed(Unwritable { directory: directory.clone(), cause }))?;
    print(&match global.json {
        true => format!("{:#}\n", json!({ "directory": directory })),
        false => format!("wrote the manual pages to {}\n", directory.display()),
    })?;
    Ok(ExitCode::from(EXIT_OK))
}

fn write(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the pages of a command and of everything below it.
    fn pages(command: &clap::Command, name: &str) -> Vec<String> {
        let below = command.get_subcommands().filter(|command| command.get_name() != "help");
        let below = below.flat_map(|command| pages(command, &format!("{name}-{}", command.get_name())));
        [format!("{name}.1")].into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_has_a_page_with_its_help() {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let below = directory.path().join("share/man1");
        write(&below).expect("the pages can be written");
        let mut written: Vec<String> = std::fs::read_dir(&below)
            .expect("the directory exists")
            .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
            .collect();
        let mut expected = pages(&Cli::command(), "outboxd");
        written.sort();
        expected.sort();
        assert_eq!(written, expected);
        let replay = std::fs::read_to_string(below.join("outboxd-replay.1")).expect("the page can be read");
        for part in [".TH outboxd-replay 1", "dead letters", "\\-\\-rate", "\\-\\-config", "Exit code: 0 started"] {
            assert!(replay.contains(part), "{part}: {replay}");
        }
    }
}
