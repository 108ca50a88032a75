//! A source file as the rules see it: its text, its code without comments, texts and tests, and its texts.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
pub struct Source {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
    /// The text with comments, the contents of literals and what is compiled for tests only blanked out; lines keep their numbers.
    pub code: String,
    /// Line number and content of every text literal outside tests.
    pub literals: Vec<(usize, String)>,
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let (mut code, mut literals) = blank(&text);
        for range in test_ranges(&code) {
            let lines = line_of(&code, range.start)..=line_of(&code, range.end);
            literals.retain(|(line, _)| !lines.contains(line));
            let blanked: String = code[range.clone()].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            code.replace_range(range, &blanked);
        }
        Self { path, text, code, literals }
    }

    /// Whether it is part of the product and not only of its tests.
    pub fn is_shipped(&self) -> bool {
        self.path.starts_with("src/") && !self.path.ends_with("/tests.rs") && !self.path.contains("/tests/")
    }

    /// A violation for every line whose code contains one of the marks.
    pub fn lines_with(&self, marks: &[&str], what: &str) -> Vec<String> {
        let lines = self.code.lines().enumerate();
        lines
            .filter_map(|(number, line)| {
                marks.iter().find(|mark| line.contains(**mark)).map(|mark| format!(":{}: `{mark}` {what}", number + 1))
            })
            .collect()
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of ours.
pub fn sources() -> Vec<Source> {
    let folders = ["src", "tests", "benches", "examples"];
    let files = folders.iter().flat_map(|folder| files(&root().join(folder), "rs"));
    files.map(|(path, text)| Source::new(path, text)).collect()
}

/// Path and text of every file with this extension below a directory; nothing if there is no such directory.
pub fn files(directory: &Path, extension: &str) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|known| known == extension) {
            let name = path.strip_prefix(root()).expect("the directory is inside the repository").to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).expect("a source file can be read")));
        }
    }
    found
}

pub fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// Blanks comments and literals and collects the texts. Bytes become spaces one by one, so places stay the same.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let (mut code, mut literals) = (bytes.to_vec(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let (end, inner) = match &bytes[at..] {
            [b'/', b'/', ..] => (at + text[at..].find('\n').unwrap_or(text.len() - at), None),
            [b'/', b'*', ..] => (at + text[at..].find("*/").map_or(text.len() - at, |length| length + 2), None),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) && raw_text(text, at).is_some() => {
                let (inner, end) = raw_text(text, at).expect("it was just found");
                (end, Some(inner))
            }
            [b'"', ..] => {
                let end = text_end(bytes, at + 1);
                (end + 1, Some(at + 1..end))
            }
            [b'\'', b'\\', ..] => (at + 2 + text[at + 3..].find('\'').map_or(0, |length| length + 2), None),
            [b'\'', _, b'\'', ..] => (at + 3, None),
            _ => {
                at += 1;
                continue;
            }
        };
        if let Some(inner) = inner {
            literals.push((line_of(text, at), text[inner].to_owned()));
        }
        let end = end.clamp(at + 1, bytes.len());
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    (String::from_utf8(code).expect("only whole characters are blanked"), literals)
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Content and end of `r"..."` or `r#"..."#`.
fn raw_text(text: &str, at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let hashes = text[at + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let start = at + 1 + hashes + 1;
    text[start - 1..].starts_with('"').then_some(())?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = start + text.get(start..)?.find(&close)?;
    Some((start..end, end + close.len()))
}

fn text_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// What follows each `#[cfg(test)]`, up to the end of its block or statement.
fn test_ranges(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(test)]").map(|place| from + place) {
        let mut depth = 0_i32;
        let mut end = code.len();
        for (place, byte) in code[start..].bytes().enumerate().skip("#[cfg(test)]".len()) {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            if depth == 0 && (byte == b'}' || byte == b';') {
                end = start + place + 1;
                break;
            }
        }
        ranges.push(start..end);
        from = end;
    }
    ranges
}

#[test]
fn comments_texts_and_tests_are_no_code() {
    let text = "//! a.unwrap()\nlet a = \"b.unwrap() \\\" \"; // c.unwrap()\nlet q = ('\"', '\\'', 'x');\nd.unwrap();\n#[cfg(test)]\nmod tests {\n e.unwrap() }\nf();";
    let source = Source::new("src/a.rs".to_owned(), text.to_owned());
    assert_eq!(source.lines_with(&[".unwrap()"], "x").len(), 1, "{}", source.code);
    assert!(source.code.contains("d.unwrap();") && source.code.contains("f();"));
    assert_eq!(source.literals, [(2, "b.unwrap() \\\" ".to_owned())]);
}
