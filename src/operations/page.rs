//! A page of a list: so many rows, and whether there are more behind them.

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// There are more than the limit let through.
    pub more: bool,
}

impl<T> Page<T> {
    /// From rows that were read with a limit of one more than `limit`.
    pub fn of(mut rows: Vec<T>, limit: u32) -> Self {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        Self { items: rows, more }
    }

    /// The row that the next page begins behind.
    pub fn last(&self) -> Option<&T> {
        self.items.last().filter(|_| self.more)
    }
}
