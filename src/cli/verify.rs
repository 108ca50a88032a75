//! `outboxd verify`: counts the pending events of every handler in two independent ways, and compares the counts.

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
A position is a snapshot, stored with the highest sequence number that it can
have seen. By the first count an event is pending if the snapshot does not see
its transaction, by the second if its sequence number is higher. If a
transaction with a higher number commits first, the event is LATE: only the
snapshot knows that it is pending, and the snapshot is right. If transaction
ids start again (in a restored dump), the two counts contradict each other:
events of AGAIN would be delivered twice, events of LOST never.

For a handler with partitions and record = \"failures\", the counts are upper
bounds while its partitions are at different positions.

Exit code:
  0  the counts agree, and the positions belong to this server
  2  the counts contradict each other, or the positions belong to another server

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
            Some(seq) => format!("the counts contradict each other from sequence number {seq} on"),
            None => "the counts agree".to_owned(),
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
