//! Plain technical English, as far as a machine can see it: sentences of documents and messages name their subject, and "by default" is not
//! called "by itself". docs/style.md has the rules.

use std::fs;

use crate::source::{Source, files, root};

/// A sentence that begins with one of these words has no named subject.
const HEADLESS: &[&str] = &["What", "Whatever", "Who", "Whoever"];

/// Words that stand for a component, an operator or a client; the text names it instead.
const NAMELESS: &[&str] = &["whoever", "nobody", "somebody", "anybody"];

/// Texts that keep one of these words, each with its reason.
const ALLOWED: &[(&str, &str)] = &[
    ("nobody:", "the user `nobody` of the system"),
    ("Who are you?", "a question"),
    ("would break if somebody \"simplified\" it", "the style page speaks of any later programmer"),
];

/// Rules for the text literals of the product: what operators, logs and metrics show.
pub fn messages(source: &Source) -> Vec<String> {
    if !source.is_shipped() {
        return vec![];
    }
    let found = |(line, text): &(usize, String)| {
        mistakes(text, true).into_iter().map(|text| format!(":{line}: {text}")).collect::<Vec<_>>()
    };
    source.literals.iter().flat_map(found).collect()
}

/// Rules for the documents, the reference of the configuration and the alert rules.
pub fn documents() -> Vec<String> {
    let mut pages = files(&root().join("docs"), "md");
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "config/outboxd.toml"] {
        pages.push((name.to_owned(), fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    pages.extend(files(&root().join("deploy/prometheus"), "yml"));
    let mut found = Vec::new();
    for (path, text) in &pages {
        let sentences = if path.ends_with(".md") { sentences(text) } else { comments(text) };
        for (line, text) in sentences {
            found.extend(mistakes(&text, false).into_iter().map(|text| format!("{path}:{line}: {text}")));
        }
    }
    found
}

/// `is_message`: a message may begin with a small letter, and then its first word counts as the beginning of a sentence.
fn mistakes(text: &str, is_message: bool) -> Vec<String> {
    let is_allowed = ALLOWED.iter().any(|(allowed, _)| text.contains(allowed));
    let mut found = Vec::new();
    if !is_allowed {
        let beginnings = text.match_indices(['.', '!', '?', ':']).filter(|(at, _)| text[at + 1..].starts_with(' '));
        let starts = [0].into_iter().chain(beginnings.map(|(at, _)| at + 2));
        let heads = starts.filter_map(|at| text.get(at..)).map(|rest| rest.trim_start_matches(['*', '_', ' ']));
        let headless = heads.enumerate().find_map(|(place, rest)| {
            let word = rest.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
            let is_question = rest.split_inclusive(['.', '?']).next().is_some_and(|sentence| sentence.ends_with('?'));
            let begins =
                HEADLESS.contains(&word) || (is_message && place == 0 && HEADLESS.iter().any(|head| head.to_lowercase() == word));
            (begins && !is_question && rest.contains(' ')).then(|| word.to_owned())
        });
        found.extend(headless.map(|word| format!("`{word} ...` has no subject; name it")));
        let words = || text.split(|c: char| !c.is_alphabetic() && c != '_');
        let nameless = words().find(|word| NAMELESS.contains(&word.to_lowercase().as_str()));
        found.extend(nameless.map(|word| format!("`{word}`; name the component, the operator or the client")));
        if text.contains("by itself") {
            found.push("`by itself`; write \"by default\", \"without a command\" or \"alone\"".to_owned());
        }
    }
    found
}

/// The prose of a page with the numbers of its lines: paragraphs, items and cells, without headings, code and fenced blocks.
fn sentences(page: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut is_fenced, mut is_open) = (false, false);
    for (number, line) in page.lines().enumerate() {
        let text = line.trim();
        if text.starts_with("```") {
            is_fenced = !is_fenced;
        }
        if is_fenced || text.is_empty() || text.starts_with(['#', '`']) && (text.starts_with("```") || text.starts_with('#')) {
            is_open = false;
        } else if text.starts_with('|') {
            found.extend(text.split('|').map(|cell| (number + 1, cell.trim().to_owned())));
            is_open = false;
        } else {
            let item = text
                .strip_prefix("- ")
                .or_else(|| text.split_once(". ").filter(|(digits, _)| digits.parse::<u8>().is_ok()).map(|(_, rest)| rest));
            match (item, is_open, found.last_mut()) {
                (None, true, Some((_, open))) => open.extend([" ", text]),
                _ => found.push((number + 1, item.unwrap_or(text).to_owned())),
            }
            is_open = true;
        }
    }
    found.iter_mut().for_each(|(_, text)| *text = without_code(text));
    found
}

/// The comments of a file in TOML or YAML, and the texts of alerts, line by line.
fn comments(text: &str) -> Vec<(usize, String)> {
    let prose = |line: &str| {
        let comment = line.trim_start().strip_prefix('#').map(|rest| rest.trim_start_matches([' ', '#']).to_owned());
        comment.or_else(|| ["summary: ", "description: "].iter().find_map(|key| Some(line.split_once(key)?.1.to_owned())))
    };
    text.lines().enumerate().filter_map(|(number, line)| Some((number + 1, without_code(&prose(line)?)))).collect()
}

/// Code in a sentence is a noun.
fn without_code(text: &str) -> String {
    text.split('`').enumerate().map(|(place, part)| if place % 2 == 0 { part } else { "code" }).collect()
}

#[test]
fn headless_sentences_and_nameless_subjects_are_found() {
    let count = |page: &str| sentences(page).iter().flat_map(|(_, text)| mistakes(text, false)).count();
    assert_eq!(count("# What it is\n\nIt is\nwell. What fails is\ntold. What now?\n"), 1);
    assert_eq!(count("- **Whoever asks** is told\n- of it, by itself\n\n| Nobody | what |\n"), 4, "one word breaks two rules");
    assert_eq!(count("```sh\n# What is this\n```\nIt says `nobody` to `What`.\n"), 0);
    assert_eq!(
        comments("# # Whoever it is\nsummary: nobody is there\nkey = 1\n")
            .iter()
            .flat_map(|(_, text)| mistakes(text, false))
            .count(),
        3
    );
    let source =
        Source::new("src/a.rs".to_owned(), "f(\"what came is late\", \"what {0}\"); g(\"nobody\"); // nobody\n".to_owned());
    assert_eq!(messages(&source).len(), 3);
}
