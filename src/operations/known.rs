//! Whether a handler that an operator names exists, and which one was perhaps meant. Reads names only.

use sqlx::PgPool;

use super::{OperationError, RefusalKind};
use crate::store;

/// Refuses the name of a handler that the database does not know, with the nearest one that it does.
pub async fn check_handler(pool: &PgPool, name: &str) -> Result<(), OperationError> {
    let names = store::list_handler_names(pool).await?;
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    let hint = match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean \"{near}\"?"),
        None if names.is_empty() => "; no relay has run on this outbox yet".to_owned(),
        None => "; `outboxd handlers list` shows all".to_owned(),
    };
    let text = format!("there is no handler \"{name}\"{hint}");
    Err(OperationError::refused(RefusalKind::UnknownHandler, text, "outboxd handlers list"))
}

/// Refuses an act that must not happen to a version of a projection, which applies each event once. `instead`: what to do.
pub async fn refuse_projection(pool: &PgPool, name: &str, instead: &str) -> Result<(), OperationError> {
    let known = store::subscriptions::list(pool).await?;
    if known.iter().any(|known| known.handler == name && known.kind == store::projections::KIND) {
        let text = format!("{name} is a version of a projection, whose table holds what its position says: {instead}");
        return Err(OperationError::refused(RefusalKind::Invalid, text, "outboxd projections list"));
    }
    Ok(())
}

/// The known name that is most like this one, if one is like it at all.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (likeness, near) = known.map(|near| (strsim::jaro_winkler(name, near), near)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.75).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_near_is_suggested() {
        assert_eq!(nearest("biling", ["billing", "mail"].into_iter()), Some("billing"));
        assert_eq!(nearest("warehouse", ["billing", "mail"].into_iter()), None);
        assert_eq!(nearest("mail", [].into_iter()), None);
    }
}
