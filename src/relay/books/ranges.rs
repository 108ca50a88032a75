//! Sequence numbers that are settled without a row, as the text of a multirange. The text is concatenated; Postgres merges what
//! overlaps.

/// The ranges of an earlier owner and those since then, as one multirange.
pub(super) fn merge_ranges(carried: Option<&str>, new: Option<String>) -> Option<String> {
    // Postgres merges what overlaps when it reads the text.
    match (carried.filter(|ranges| *ranges != "{}"), new) {
        (Some(old), Some(new)) => Some(format!("{},{}", old.trim_end_matches('}'), new.trim_start_matches('{'))),
        (Some(old), None) => Some(old.to_owned()),
        (None, new) => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_two_owners_are_told_together() {
        assert_eq!(merge_ranges(Some("{[1,2)}"), Some("{[2,3)}".into())).as_deref(), Some("{[1,2),[2,3)}"));
        assert_eq!(merge_ranges(Some("{}"), None), None);
        assert_eq!(merge_ranges(Some("{[1,2)}"), None).as_deref(), Some("{[1,2)}"));
    }
}
