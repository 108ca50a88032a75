//! The arguments: parsed, or refused with a message and exit code 64. `status` and `doctor` use 2 for a broken system, so a typing error must
//! not exit with clap's own 2.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use super::{Cli, EXIT_CONFIG, EXIT_OK};

/// Earlier versions took the reason for the audit as `--reason`; now `--reason` selects deliveries in every command.
const REASON: &str = "--reason selects deliveries by the reason of their failure, such as timeout or client_error. \
To give your reason for the audit, use --because 'your words'.";

/// Reads the arguments of the process. `Err`: help or an error was printed; the value is the exit code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        refuse_ignored(&matches)?;
        Cli::from_arg_matches(&matches)
    });
    parsed.map_err(|error| ExitCode::from(report(&error)))
}

/// Prints help to standard output and mistakes to standard error.
fn report(error: &clap::Error) -> u8 {
    error.print().ok(); // a message that cannot be printed does not change the exit code
    if let Some(hint) = hint(error) {
        eprintln!("\n  tip: {hint}");
    }
    exit_code(error)
}

fn exit_code(error: &clap::Error) -> u8 {
    if error.use_stderr() { EXIT_CONFIG } else { EXIT_OK }
}

fn hint(error: &clap::Error) -> Option<&'static str> {
    let is_about_reason =
        || matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(name)) if name.starts_with("--reason"));
    (matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidValue) && is_about_reason()).then_some(REASON)
}

/// Commands that use neither the address nor the schema of an outbox. On the command line these options are refused instead of ignored;
/// in the environment they may be set for other commands.
const WITHOUT_ADDRESS: &[&str] = &["bench", "completions", "health", "man", "secret"];
const WITHOUT_SCHEMA: &[&str] = &["bench", "completions", "demo", "health", "man", "secret"];

fn refuse_ignored(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name, arguments)) = matches.subcommand() else { return Ok(()) };
    let is_description = name == "config" && arguments.subcommand_name().is_some_and(|name| name != "show");
    for (id, flag, commands) in [("database_url", "--database-url", WITHOUT_ADDRESS), ("schema", "--schema", WITHOUT_SCHEMA)] {
        let is_given = arguments.value_source(id) == Some(ValueSource::CommandLine);
        if is_given && (is_description || commands.contains(&name)) {
            let text = format!("{flag} has no effect on `outboxd {name}`, which uses no outbox of yours; remove it\n");
            return Err(Cli::command().error(ErrorKind::ArgumentConflict, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &str) -> (u8, String) {
        let arguments = arguments.split(' ').map(OsString::from);
        let matches = Cli::command().try_get_matches_from(arguments).and_then(|matches| refuse_ignored(&matches));
        let error = matches.expect_err("it is refused");
        (exit_code(&error), format!("{error}{}", hint(&error).unwrap_or_default()))
    }

    #[test]
    fn wrong_usage_is_64_and_help_is_0() {
        for arguments in ["outboxd", "outboxd status --bogus", "outboxd nothing", "outboxd status now", "outboxd events show x"] {
            assert_eq!(refused(arguments).0, EXIT_CONFIG, "{arguments}");
        }
        for arguments in ["outboxd --help", "outboxd status -h", "outboxd --version", "outboxd help"] {
            assert_eq!(refused(arguments).0, EXIT_OK, "{arguments}");
        }
    }

    #[test]
    fn words_behind_reason_are_refused_with_the_flag_for_words() {
        for arguments in [
            "outboxd dead-letters discard --handler billing --reason cancelled --yes",
            "outboxd handlers pause billing --reason moving",
            "outboxd handlers circuit close billing --reason mended",
            "outboxd handlers rewind billing --to 2h --reason restored",
            "outboxd handlers start-from billing now --reason worthless",
            "outboxd keys skip billing order/42 --reason broken",
            "outboxd events bury 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --handler billing --reason unknown",
            "outboxd events erase --key order/42 --reason request",
            "outboxd alerts ack a --reason known",
            "outboxd alerts snooze a --for 2h --reason known",
            "outboxd replays cancel 7b0c8e0e-4df0-4b5e-9c1f-3b8d5a1f2e6d --reason down",
        ] {
            let (code, text) = refused(arguments);
            assert!(code == EXIT_CONFIG && text.contains("--because"), "{arguments}: {text}");
        }
    }

    #[test]
    fn a_flag_that_would_be_ignored_is_refused() {
        for arguments in [
            "outboxd health --database-url postgres://h/d",
            "outboxd --schema events bench",
            "outboxd completions bash --schema x",
            "outboxd config reference --schema x",
            "outboxd demo --schema x",
        ] {
            let (code, text) = refused(arguments);
            assert!(code == EXIT_CONFIG && text.contains("has no effect on"), "{arguments}: {text}");
        }
        let accepted = Cli::command().try_get_matches_from(["outboxd", "--schema", "x", "config", "show"]);
        assert!(accepted.and_then(|matches| refuse_ignored(&matches)).is_ok());
    }

    /// One meaning per flag: a new command with `--reason` for a text, or with another type, fails here.
    #[test]
    fn a_flag_means_the_same_in_every_command() {
        fn look(command: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                let (id, help) = (argument.get_id().as_str(), argument.get_help().map(ToString::to_string).unwrap_or_default());
                let is_filter = help.starts_with("Only");
                let is_wrong = match id {
                    "reason" | "key" | "since" | "until" | "text" => !is_filter,
                    "because" => !["Why", "Reason", "What you know"].iter().any(|word| help.contains(word)),
                    "note" => true,
                    _ => false,
                };
                if is_wrong {
                    found.push(format!("{path} --{id}: {help}"));
                }
            }
            command.get_subcommands().for_each(|command| look(command, &path, found));
        }
        let mut found = Vec::new();
        look(&Cli::command(), "", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}
