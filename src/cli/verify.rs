//! `outboxd verify`: counts what every handler has not finished by two witnesses, and says whether they agree.

use std::process::ExitCode;

use serde_json::json;

use super::print::print;
use super::text::plain_table;
use super::{CliError, EXIT_CRITICAL, EXIT_OK, Global, session};
use crate::domain::Standing;
use crate::rebase;
use crate::store::rebase::{Witnesses, count_pending};
use crate::store::{list_handler_names, read_identity};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A position is a snapshot; the highest number that it can have seen stands
beside it. An event is pending by the first witness if the snapshot does not
see its transaction, by the second if its number is higher. A transaction
that overtakes makes an event LATE: only the snapshot knows that it is
pending, and that is right. Where transaction numbers began anew (a restored
dump) the two contradict one another: AGAIN would be delivered a second
time, LOST would never be delivered.

Of a handler with partitions and record = \"failures\" the counts are upper
bounds while its partitions have read differently far.

Exit code:
  0  they agree, and the positions belong to this server
  2  they do not

Examples:
  outboxd verify
  outboxd verify --json | jq '.handlers[] | select(.lost > 0)'")]
pub struct VerifyArgs {}

pub async fn run(_: VerifyArgs, global: &Global) -> Result<ExitCode, CliError> {
    let session = session::open(global).await?;
    let standing = read_identity(&session.pool).await?.standing();
    let mut handlers = Vec::new();
    for name in list_handler_names(&session.pool).await? {
        handlers.push(count_pending(&session.pool, &name).await?);
    }
    let is_ours = matches!(standing, Standing::Ours | Standing::Fresh);
    let agree = is_ours && handlers.iter().all(agrees);
    print(&match global.json {
        true => {
            let document = json!({ "agree": agree, "found": rebase::explain(&standing), "is_ours": is_ours, "handlers": handlers });
            format!("{document:#}\n")
        }
        false => describe(&standing, &handlers, agree),
    })?;
    Ok(ExitCode::from(if agree { EXIT_OK } else { EXIT_CRITICAL }))
}

fn agrees(witnesses: &Witnesses) -> bool {
    witnesses.again == 0 && witnesses.lost == 0
}

fn describe(standing: &Standing, handlers: &[Witnesses], agree: bool) -> String {
    let mut table = plain_table(&["HANDLER", "PENDING", "LATE", "AGAIN", "LOST", "VERDICT"]);
    for handler in handlers {
        let verdict = match handler.first_in_doubt.filter(|_| !agrees(handler)) {
            Some(seq) => format!("they contradict one another from number {seq} on"),
            None => "they agree".to_owned(),
        };
        table.add_row([
            handler.handler.clone(),
            (handler.both + handler.late).to_string(),
            handler.late.to_string(),
            handler.again.to_string(),
            handler.lost.to_string(),
            verdict,
        ]);
    }
    let handlers = if handlers.is_empty() { String::new() } else { format!("\n{}\n", table.trim_fmt()) };
    let next = if agree { "" } else { "\n-> outboxd rebase --dry-run\n" };
    format!("{}\n{handlers}{next}", rebase::explain(standing))
}
