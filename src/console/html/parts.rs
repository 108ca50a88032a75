//! Pieces that several pages have: texts of others, counts, states, commands, tables, buttons.

use maud::{Markup, html};

use crate::domain::Level;
use crate::domain::text::printable;

/// Characters of a text of others that a list has room for.
pub const IN_LIST: usize = 160;
/// Characters of one in a sentence of its own.
const IN_SENTENCE: usize = 600;
/// Characters of one where it has the page for itself.
pub const IN_FULL: usize = 20_000;

/// What a stranger wrote, on one line of a list.
pub fn foreign(text: &str) -> Markup {
    html! { bdi { (cut(&printable(text).replace('\n', " "), IN_LIST)) } }
}

/// The same where a sentence has the room for it.
pub fn foreign_long(text: &str) -> Markup {
    html! { bdi { (cut(&printable(text).replace('\n', " "), IN_SENTENCE)) } }
}

pub fn foreign_or_dash(text: Option<&str>) -> Markup {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => foreign(text),
        None => html! { span.none { "–" } },
    }
}

/// What a stranger wrote, as long as it is, with its lines.
pub fn foreign_block(text: &str, label: &str) -> Markup {
    html! { pre tabindex="0" role="group" aria-label=(label) { (cut(&printable(text), IN_FULL)) } }
}

/// One of many lines of what a stranger wrote, as long as a line may be.
pub fn foreign_line(text: &str) -> Markup {
    html! { (cut(&printable(text), IN_SENTENCE)) }
}

fn cut(text: &str, room: usize) -> String {
    match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}… ({} more bytes)", &text[..end], text.len() - end),
        None => text.to_owned(),
    }
}

/// A whole number with its thousands apart; "+" where there are at least so many.
pub fn count(number: u64, is_exact: bool) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if !is_exact {
        text.push('+');
    }
    text
}

/// For example "1 dead letter", "2 000 dead letters".
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number, true), if number == 1 { one } else { many })
}

/// A word with a colour and a mark of its own: no colour says anything alone.
pub fn badge(class: &str, text: &str) -> Markup {
    html! { span class=(format!("badge {class}")) { (text) } }
}

pub fn level_class(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

/// The line for a shell that does the same. One click selects all of it.
pub fn command(line: &str) -> Markup {
    html! { p.command { span.prompt aria-hidden="true" { "$ " } code tabindex="0" { (printable(line)) } } }
}

/// A table that scrolls by itself where the page is narrow.
pub fn table(label: &str, head: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="group" aria-label=(label) tabindex="0" {
            table {
                thead { tr { @for title in head { (column(title)) } } }
                tbody { (rows) }
            }
        }
    }
}

/// The head of a column; one of numbers, which begins with "#", stands above their ends.
fn column(title: &str) -> Markup {
    match title.strip_prefix('#') {
        Some(title) => html! { th.number scope="col" { (title) } },
        None => html! { th scope="col" { (title) } },
    }
}

/// A way to a page on which something can be done.
pub fn button(to: &str, text: &str) -> Markup {
    html! { a.button href=(to) { (text) } }
}

/// A list of names with what stands for each.
pub fn facts(pairs: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } } }
}

/// What stands where there is nothing to show.
pub fn nothing(text: &str) -> Markup {
    html! { p.nothing { (text) } }
}

/// A hidden field of a form.
pub fn hidden(name: &str, value: &str) -> Markup {
    html! { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
}

/// The field in which a person says why.
pub fn reason_field(is_required: bool, hint: &str) -> Markup {
    html! {
        p.field {
            label for="because" { "Why" @if !is_required { span.hint { " (optional)" } } }
            input id="because" name="because" type="text" maxlength="500" autocomplete="off" required[is_required] aria-describedby="because-hint";
            span.hint id="because-hint" { (hint) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_text_and_nothing_else() {
        let hostile = "<img src=x onerror=alert(1)>\u{202e}evil\" hx-get=\"/x\n\x1b[2J";
        for made in [foreign(hostile), foreign_block(hostile, "x"), command(hostile), badge("ok", hostile)] {
            let made = made.into_string();
            assert!(!made.contains("<img") && !made.contains("\" hx-get"), "{made}");
        }
        assert!(!foreign(hostile).into_string().contains(['\u{202e}', '\n', '\u{1b}']));
        let long = foreign(&"ä".repeat(1_000_000)).into_string();
        assert!(long.len() < 1_000 && long.contains("more bytes"), "{}", long.len());
    }

    #[test]
    fn numbers_are_told_with_their_thousands() {
        for (number, want) in [(0, "0"), (999, "999"), (1_000, "1\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")] {
            assert_eq!(count(number, true), want);
        }
        assert_eq!(count(10_000, false), "10\u{202f}000+");
        assert_eq!((counted(1, "letter", "letters").as_str(), counted(2, "letter", "letters").as_str()), ("1 letter", "2 letters"));
    }
}
