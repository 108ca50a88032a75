//! `outboxd dead-letters export`: dead letters with everything that is recorded about them, one JSON document per line. Changes nothing,
//! and holds one dead letter in memory at a time.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use uuid::Uuid;

use super::super::filter::FilterArgs;
use super::super::text::plural;
use super::super::{CliError, EXIT_OK, Global, session};
use crate::operations::{parse_path, redact_json};
use crate::store::{self, ExportedLetter};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  outboxd dead-letters export > dead-letters.ndjson
  outboxd dead-letters export --handler billing --since 7d --redact customer.email
  outboxd dead-letters export --group 3f9a1c20b7d4e655 | jq -r .payload.order_id

Payloads and headers are printed as they were recorded, except for the fields that --redact hides. Every matching dead letter is exported, \
in the order of the events.")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only this event; may be given several times
    #[arg(long, value_name = "UUID", num_args = 1..)]
    id: Vec<Uuid>,
    /// Hide this field of payload or headers, for example customer.card; * stands for any name
    #[arg(long, value_name = "PATH", value_parser = parse_path, num_args = 1..)]
    redact: Vec<RedactPath>,
}

/// An alias, so that clap treats the names of one path as one value.
pub(super) type RedactPath = Vec<String>;

pub(super) async fn run(args: ExportArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let filter = args.filter.resolve(&session.pool, args.id).await?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let count = store::export_dead_letters(&session.pool, &filter, |mut letter: ExportedLetter| {
        letter.payload = redact_json(&letter.payload, &args.redact);
        letter.headers = redact_json(&letter.headers, &args.redact);
        let line = serde_json::to_string(&letter).expect("a dead letter has a JSON form");
        written = writeln!(output, "{line}");
        written.is_ok()
    })
    .await?;
    match written.and_then(|()| output.flush()) {
        // A reader that stops early, such as `head`, is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(CliError::failed(error)),
        _ => {}
    }
    eprintln!("exported {count} dead letter{}", plural(count));
    Ok(ExitCode::from(EXIT_OK))
}
