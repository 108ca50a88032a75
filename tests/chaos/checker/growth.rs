//! Nothing grows without a bound: when all is quiet a vacuum finds nothing that somebody still holds, and tables whose rows are as many
//! as there are handlers or relays are small.

use super::Violation;
use crate::history::History;

const DEAD_ROWS: i64 = 500;
const SMALL_BYTES: i64 = 16 * 1024 * 1024;

pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut say = |what: String| found.push(Violation { rule: "growth", event: None, at: None, what });
    for table in &history.tables {
        if table.dead_rows > DEAD_ROWS {
            say(format!("{} has {} dead rows that a vacuum could not remove", table.name, table.dead_rows));
        }
        if table.is_small && table.bytes > SMALL_BYTES {
            say(format!("{} has {} bytes", table.name, table.bytes));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::checker::sample::{only_rule, well};
    use crate::history::Table;

    #[test]
    fn dead_rows_and_small_tables_that_grow_are_found() {
        for (table, expected) in [
            (("deliveries", 20, 1 << 40, false), 0),
            (("deliveries", 9_999, 1, false), 1),
            (("subscriptions", 0, 1 << 30, true), 1),
        ] {
            let (name, dead_rows, bytes, is_small) = table;
            let mut history = well();
            history.tables.push(Table { name: name.to_owned(), dead_rows, bytes, is_small });
            assert_eq!(only_rule(&history, "growth").len(), expected, "{name}");
        }
    }
}
