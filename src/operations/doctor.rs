//! Faults of the server, the outbox and the configuration, with their fixes. Reads only.

use std::path::Path;
use std::time::Duration;

use sqlx::PgPool;

use super::Configuration;
use crate::doctor::{Report, Standards, judge};
use crate::forgetting;
use crate::handlers::Built;
use crate::store::facts::{ErasureFacts, Facts, Unread, read_adoptions, read_facts};
use crate::telemetry::chain;

/// Transactions that have been open for longer are told of by default.
pub const OLD_TRANSACTION: Duration = Duration::from_secs(300);

/// Examines everything. Without a configuration the report says what was left out. `unencrypted`: what a person should know of the way to the
/// server.
pub async fn examine(
    pool: &PgPool,
    schema: &str,
    configuration: Option<&Configuration>,
    unencrypted: Option<&str>,
    older_than: Duration,
) -> Report {
    let is_function = |built: &Built| matches!(built, Built::Function(_));
    let handlers = configuration.iter().flat_map(|configuration| &configuration.handlers);
    let functions: Vec<String> = handlers.filter(|(_, built)| is_function(built)).map(|(config, _)| config.name.clone()).collect();
    let mut facts = read_facts(pool, schema).await;
    let config = configuration.map(|configuration| &configuration.config);
    if let Some(config) = config {
        read_adoptions(&mut facts, pool, &config.adopt).await;
        read_erasure(&mut facts, pool, config.erasure.ledger.as_deref()).await;
    }
    let cautions = configuration.map(|configuration| configuration.cautions.as_slice()).unwrap_or_default();
    judge(&facts, &Standards { config, functions: &functions, older_than, unencrypted, cautions })
}

/// Nothing before there is an outbox that knows subjects: the version is a finding of its own.
async fn read_erasure(facts: &mut Facts, pool: &PgPool, ledger: Option<&Path>) {
    let (Some(ledger), Some(None)) = (ledger, &facts.schema_refusal) else { return };
    let read = async {
        let revived = forgetting::find_revived(pool, ledger).await?;
        Ok(ErasureFacts { revived, unwritten: forgetting::find_unwritten(pool, ledger).await?.len() })
    };
    match read.await {
        Ok(found) => facts.erasure = Some(found),
        Err::<_, forgetting::ForgetError>(error) => facts.unread.push(Unread { check: "erasure", reason: chain(&error) }),
    }
}
