//! Asking the relays that run to read their configuration again.

use std::time::Duration;

use sqlx::PgPool;

use super::{Caller, OperationError, RefusalKind};
use crate::store::{self, AskedRelay};

/// A relay that was silent for longer has died.
const SILENCE: Duration = Duration::from_secs(60);

/// Asks every relay that lives, or one of them; refuses where none does.
pub async fn ask(pool: &PgPool, caller: &Caller, instance: Option<&str>) -> Result<Vec<AskedRelay>, OperationError> {
    let asked = store::ask_reload(pool, instance, SILENCE, caller.actor()).await?;
    if asked.is_empty() {
        let text = "no relay runs that could reload; one that is started reads its configuration anyway";
        return Err(OperationError::refused(RefusalKind::Invalid, text, "outboxd status"));
    }
    Ok(asked)
}
