//! The audit: who did what, when, why, on which road. Read only.

use sqlx::PgPool;

use super::{OperationError, Page};
use crate::store::{self, AuditQuery, AuditRow};

/// A page of the audit, the newest first.
pub async fn list(pool: &PgPool, query: &AuditQuery, limit: u32) -> Result<Page<AuditRow>, OperationError> {
    Ok(Page::of(store::list_audit(pool, query, limit + 1).await?, limit))
}
