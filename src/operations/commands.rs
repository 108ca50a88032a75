//! Command lines that an operator can paste: the same act on the road of the CLI, with the filter in it.

use std::fmt::Write;

pub use crate::domain::text::shell_word;
use crate::store::DeliveryFilter;

/// The options that name the same deliveries; `--all` where the filter names none.
pub fn filter_options(filter: &DeliveryFilter) -> String {
    let DeliveryFilter { delivered, handler, event_type, key, reason, ids, since, until, text, group } = filter;
    let mut options = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            write!(options, " --{name} {}", shell_word(&value)).expect("a text takes any text");
        }
    };
    add("handler", handler.clone());
    add("type", event_type.clone());
    add("key", key.clone());
    add("reason", reason.clone());
    add("since", since.map(|at| at.to_string()));
    add("until", until.map(|at| at.to_string()));
    add("text", text.clone());
    add("group", group.map(|group| group.to_string()));
    for id in ids {
        add("id", Some(id.to_string()));
    }
    if options.is_empty() {
        options.push_str(" --all");
    }
    if *delivered {
        options.push_str(" --delivered --force");
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Fingerprint;

    #[test]
    fn the_options_name_what_the_filter_names() {
        assert_eq!(filter_options(&DeliveryFilter::default()), " --all");
        let filter = DeliveryFilter {
            handler: Some("bill ing".to_owned()),
            group: Some(Fingerprint(7)),
            text: Some("$(rm -rf /)".to_owned()),
            ..DeliveryFilter::default()
        };
        assert_eq!(filter_options(&filter), " --handler 'bill ing' --text '$(rm -rf /)' --group 0000000000000007");
    }
}
