//! The readable part of a damaged event, for operators: if one value cannot be read, all others are returned.

use super::StoreError;

/// The columns that are left out, in turn, until the rest can be read.
const LEFT_OUT: [&[&str]; 5] = [&[], &["payload"], &["headers"], &["aggregate"], &["payload", "headers", "aggregate"]];

/// Reads of one event, each with less than the one before.
#[derive(Default)]
pub(super) struct Remains {
    turn: usize,
    /// Why not everything could be read.
    pub damage: Option<String>,
}

impl Remains {
    /// The columns that are not read this time.
    pub fn left_out(&self) -> &'static [&'static str] {
        LEFT_OUT[self.turn]
    }

    /// A read has failed. Fails with it if it was not for the data, or if nothing is left.
    pub fn leave_out_more(&mut self, error: StoreError) -> Result<(), StoreError> {
        if !error.is_about_data() || self.turn + 1 == LEFT_OUT.len() {
            return Err(error);
        }
        self.turn += 1;
        self.damage.get_or_insert_with(|| error.innermost());
        Ok(())
    }
}
