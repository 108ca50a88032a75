//! The feed: cursors that are stored for clients which the configuration does not have any more.

use super::{Finding, Standards, identifier, literal};
use crate::store::facts::Facts;
use crate::store::feed::ListedCursor;

pub(super) fn judge(facts: &Facts, standards: &Standards<'_>, findings: &mut Vec<Finding>) {
    let (Some(config), Some(cursors)) = (standards.config, &facts.cursors) else { return };
    let is_configured = |cursor: &ListedCursor| {
        config.clients.iter().any(|client| client.name == cursor.client && client.cursors.contains(&cursor.name))
    };
    findings.extend(cursors.iter().filter(|cursor| !is_configured(cursor)).map(|cursor| judge_cursor(&facts.schema, cursor)));
}

fn judge_cursor(schema: &str, cursor: &ListedCursor) -> Finding {
    let ListedCursor { client, name, moved_at, .. } = cursor;
    let what =
        format!("the cursor {name} of client {client}, last moved at {moved_at}, belongs to no client of this configuration");
    let why = "no client can read or move it, and its lag is not watched; if the client comes back under this name, it goes on from \
               there. Remove it only if no relay with another configuration serves the client";
    Finding::warning("feed", what, why).sql(format!(
        "delete from {}.client_cursors where client = {} and name = {};",
        identifier(schema),
        literal(client),
        literal(name)
    ))
}
