//! Output for the terminal: tables, times, foreign texts without control characters, and one form of an event for every command.
//! Also JSON documents for scripts. Prints nothing itself.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::Timestamp;
use crate::domain::json::indent_json;
pub(super) use crate::domain::text::{printable, shell_word};
use crate::settings::describe_duration;
use crate::store::events::Event;

/// Bytes of a payload that are shown by default.
pub(super) const SHOWN_BYTES: usize = 4 * 1024;

/// The document for scripts. Not built from a `serde_json::Value`, which would parse and round the numbers of a payload.
pub(super) fn as_json(document: &impl Serialize) -> String {
    serde_json::to_string_pretty(document).expect("texts and numbers have a JSON form") + "\n"
}

/// Characters of one cell of a table: foreign texts have any length, and one row must not fill the terminal.
const CELL: usize = 200;

/// Bytes of a key or an aggregate on the page of one event.
pub(super) const SHOWN_KEY_BYTES: usize = 1024;

/// Rows below a header, each cell bounded and on one line. The JSON form has the whole texts.
pub(super) struct PlainTable(Table);

impl PlainTable {
    pub fn add_row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.0.add_row(cells.into_iter().map(|cell| cut(&cell.as_ref().replace('\n', " "), CELL)));
    }

    pub fn trim_fmt(&self) -> String {
        self.0.trim_fmt()
    }
}

/// As wide as the terminal; without a terminal as wide as the text.
pub(super) fn plain_table(header: &[&str]) -> PlainTable {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    PlainTable(table)
}

/// At most this many characters, and a mark if there were more.
fn cut(text: &str, room: usize) -> String {
    match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The beginning of an unbounded text, and the number of bytes that are left out.
pub(super) fn bounded(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes);
    format!("{}... {} more bytes; --json has all", &text[..end], text.len() - end)
}

/// Event, type, aggregate, headers and payload; of a large payload the first bytes.
pub(super) fn describe_event(event: &Event, shown_bytes: usize) -> String {
    let aggregate = describe_aggregate(event.aggregate_type.as_deref(), event.aggregate_id.as_deref(), event.aggregate_version);
    let aggregate = bounded(&aggregate, SHOWN_KEY_BYTES);
    let damage = event.damage.as_ref().map(|damage| format!("damaged    cannot be read as a whole: {}\n", printable(damage)));
    let damage = damage.unwrap_or_default();
    format!(
        "event      {}\ntype       {}\naggregate  {aggregate}\noccurred   {}\nheaders    {}\npayload    {}\n{damage}",
        event.id,
        printable(&event.event_type),
        event.occurred_at,
        printable_json(&event.headers, shown_bytes),
        printable_json(&event.payload, shown_bytes),
    )
}

/// For example `order/42 version 3`.
pub(super) fn describe_aggregate(aggregate_type: Option<&str>, id: Option<&str>, version: Option<i64>) -> String {
    let name = match (aggregate_type, id) {
        (None, None) => "-".to_owned(),
        (Some(aggregate_type), Some(id)) => format!("{aggregate_type}/{id}"),
        (one, other) => one.or(other).unwrap_or_default().to_owned(),
    };
    let version = version.map(|version| format!(" version {version}")).unwrap_or_default();
    printable(&format!("{name}{version}"))
}

/// The text with an indentation, cut at the limit.
fn printable_json(json: &RawValue, shown_bytes: usize) -> String {
    let text = indent_json(json.get());
    if text.len() <= shown_bytes {
        return printable(&text);
    }
    let end = text.floor_char_boundary(shown_bytes);
    format!("{}\n... {} more bytes; --full shows all", printable(&text[..end]), text.len() - end)
}

/// For example `server_error (500)`.
pub(super) fn describe_reason(reason: Option<&str>, status: Option<i32>) -> String {
    match (reason, status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (reason, _) => reason.map_or_else(dash, str::to_owned),
    }
}

/// To the second; operators need no more.
pub(super) fn describe_moment(moment: Timestamp) -> String {
    let text = moment.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// Whole seconds; operators need no more.
pub(super) fn describe_age(age: Duration) -> String {
    describe_duration(Duration::from_secs(age.as_secs()))
}

/// The first line of a receiver's answer, bounded for a table.
pub(super) fn shorten(text: &str) -> String {
    const ROOM: usize = 80;
    cut(&printable(text.trim().lines().next().unwrap_or_default()), ROOM)
}

pub(super) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("valid JSON")
    }

    #[test]
    fn a_payload_keeps_its_numbers_and_is_cut_at_a_character_where_the_room_ends() {
        let payload = raw("{\"a\":\"éééé\"}");
        assert_eq!(printable_json(&payload, 11), "{\n  \"a\": \"\n... 11 more bytes; --full shows all");
        assert_eq!(printable_json(&payload, usize::MAX), "{\n  \"a\": \"éééé\"\n}");
        let payload = raw("{\"n\":12345678901234567890.10}");
        assert_eq!(printable_json(&payload, 100), "{\n  \"n\": 12345678901234567890.10\n}");
    }

    #[test]
    fn an_aggregate_is_told_as_far_as_it_is_known() {
        for (aggregate_type, id, version, want) in
            [(None, None, None, "-"), (Some("order"), Some("42"), Some(3), "order/42 version 3"), (None, Some("42"), None, "42")]
        {
            assert_eq!(describe_aggregate(aggregate_type, id, version), want);
        }
    }

    #[test]
    fn nothing_that_others_wrote_steers_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\r"), "a\u{fffd}[2Jb\nc\u{fffd}");
        assert_eq!(shorten(" no such\x1b[31m order\nat line 1"), "no such\u{fffd}[31m order");
        assert_eq!(shorten(&"ä".repeat(90)), format!("{}...", "ä".repeat(80)));
        assert_eq!(shorten(""), "");
    }

    #[test]
    fn no_cell_fills_the_terminal() {
        let mut table = plain_table(&["KEY", "DETAIL"]);
        table.add_row(["x".repeat(200_000), "a\nb".to_owned()]);
        let shown = table.trim_fmt();
        assert!(shown.len() < 1_000 && shown.contains("xxx...") && shown.contains("a b"), "{} bytes", shown.len());
        assert_eq!(bounded("äää", 3), "ä... 4 more bytes; --json has all");
        assert_eq!(bounded("ab", 2), "ab");
    }

    #[test]
    fn a_moment_is_told_to_the_second() {
        assert_eq!(describe_moment(Timestamp::from_micros(1_700_000_000_123_456)), "2023-11-14T22:13:20Z");
    }
}
