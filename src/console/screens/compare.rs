//! Two attempts side by side: what was the same, what differed, and the answers line by line.

use std::collections::HashSet;
use std::time::Duration;

use maud::{Markup, html};

use super::super::ask::{Ask, Fields};
use super::super::html::*;
use super::letters::reason;
use crate::domain::text::printable;
use crate::store::events::Attempt;

/// Lines of an answer that are compared.
const MOST_LINES: usize = 200;

/// The attempts to compare, and the form that chooses them. Empty where there are not two. The address of the page is `action`.
pub fn compare(ask: &Ask, attempts: &[&Attempt], action: &str) -> Markup {
    let Some((one, other)) = chosen(&ask.query, attempts.len()) else { return html! {} };
    let (a, b) = (attempts[one], attempts[other]);
    html! {
        h2 #compare { "Two attempts compared" }
        form.filter method="get" action=(format!("{action}#compare")) {
            (choice("one", "The first", one, attempts)) (choice("other", "The second", other, attempts))
            p { button.quiet type="submit" { "Compare" } }
        }
        (table("Differences", &["What", "The first", "The second", "Difference"], &facts_of(ask, a, b)))
        (answers(a, b))
    }
}

/// The places of the two: those that the query names, else the last two.
fn chosen(query: &Fields, count: usize) -> Option<(usize, usize)> {
    let named =
        |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok()).filter(|place| (1..=count).contains(place));
    let (one, other) = (named("one").unwrap_or(count.checked_sub(1)?), named("other").unwrap_or(count));
    (count >= 2).then(|| (one - 1, other - 1))
}

fn choice(name: &str, label: &str, place: usize, attempts: &[&Attempt]) -> Markup {
    html! {
        p.field {
            label for=(format!("compare-{name}")) { (label) }
            select id=(format!("compare-{name}")) name=(name) {
                @for (at, attempt) in attempts.iter().enumerate() {
                    option value=(at + 1) selected[at == place] { (at + 1) ": " (clock(attempt.at)) }
                }
            }
        }
    }
}

fn facts_of(ask: &Ask, a: &Attempt, b: &Attempt) -> Markup {
    let may = |ambiguous: bool| if ambiguous { "yes: no answer came back" } else { "no" };
    let gap = if b.at >= a.at { b.at.since(a.at) } else { a.at.since(b.at) };
    html! {
        (fact("At", moment(a.at, ask.now), moment(b.at, ask.now), &format!("{} apart", span(gap))))
        (fact("Attempt", html! { (a.attempt) }, html! { (b.attempt) }, ""))
        (fact("Outcome", foreign(&a.outcome), foreign(&b.outcome), differs(a.outcome == b.outcome)))
        (fact("Reason", reason(Some(&a.reason), a.status), reason(Some(&b.reason), b.status), differs((&a.reason, a.status) == (&b.reason, b.status))))
        (fact("Took", took(a), took(b), &slower(a.duration_ms, b.duration_ms)))
        (fact("May have arrived", html! { (may(a.ambiguous)) }, html! { (may(b.ambiguous)) }, differs(a.ambiguous == b.ambiguous)))
        (fact("Relay", foreign_or_dash(a.instance.as_deref()), foreign_or_dash(b.instance.as_deref()), differs(a.instance == b.instance)))
    }
}

fn fact(name: &str, a: Markup, b: Markup, difference: &str) -> Markup {
    html! { tr { th scope="row" { (name) } td { (a) } td { (b) } td { (difference) } } }
}

fn differs(is_same: bool) -> &'static str {
    if is_same { "same" } else { "differs" }
}

fn took(attempt: &Attempt) -> Markup {
    html! { (count(u64::from(attempt.duration_ms.max(0).unsigned_abs()), true)) " ms" }
}

fn slower(a: i32, b: i32) -> String {
    let apart = Duration::from_millis(u64::from(a.abs_diff(b))).as_millis();
    match b.cmp(&a) {
        std::cmp::Ordering::Equal => "same".to_owned(),
        std::cmp::Ordering::Greater => format!("{apart} ms longer"),
        std::cmp::Ordering::Less => format!("{apart} ms shorter"),
    }
}

/// The answers; of two that differ each line that the other one has not is marked.
fn answers(a: &Attempt, b: &Attempt) -> Markup {
    let (a, b) = (printable(a.detail.as_deref().unwrap_or_default()), printable(b.detail.as_deref().unwrap_or_default()));
    if a == b {
        return html! { h3 { "Both had the same answer" } @if a.is_empty() { (nothing("An empty one.")) } @else { (foreign_block(&a, "The answer")) } };
    }
    html! {
        div.pair {
            div { h3 { "Answer to the first" } (marked(&a, &b, "Answer to the first")) }
            div { h3 { "Answer to the second" } (marked(&b, &a, "Answer to the second")) }
        }
    }
}

fn marked(text: &str, other: &str, label: &str) -> Markup {
    let others: HashSet<&str> = other.lines().take(MOST_LINES).collect();
    let lines = text.lines().take(MOST_LINES);
    html! {
        pre tabindex="0" role="group" aria-label=(label) {
            @for line in lines {
                @if others.contains(line) { (foreign_line(line)) } @else { mark { (foreign_line(line)) } }
                "\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_are_compared_unless_others_are_named() {
        for (query, count, want) in [
            ("", 0, None),
            ("", 1, None),
            ("", 2, Some((0, 1))),
            ("", 5, Some((3, 4))),
            ("one=1&other=3", 5, Some((0, 2))),
            ("one=0&other=6", 5, Some((3, 4))),
            ("one=x", 3, Some((1, 2))),
            ("one=3&other=1", 3, Some((2, 0))),
        ] {
            assert_eq!(chosen(&Fields::parse(query.as_bytes()), count), want, "{query} of {count}");
        }
    }

    #[test]
    fn only_lines_that_the_other_answer_has_not_are_marked() {
        let made = marked("same\n<b>mine</b>", "same\nother", "x").into_string();
        assert!(made.contains("same\n<mark>") && made.contains("&lt;b&gt;mine"), "{made}");
    }
}
