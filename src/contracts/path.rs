//! Paths: the place in a payload where a cast works, `order.lines[].sku`. `[]` stands for every item of a list. A name with other
//! characters is written as a JSON string: `"odd.name".price`.

use std::fmt;

/// A place in a document, or a place in every item of one or more lists. Never empty, and never ends with `[]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// The member of an object with this name.
    Member(String),
    /// Every item of a list.
    Each,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    #[error("a path needs at least one name, such as \"total\" or \"lines[].sku\"")]
    Empty,
    #[error("a name is empty; write \"a.b\", or a name with odd characters as a JSON string")]
    EmptyName,
    #[error("\"[]\" follows a name or another \"[]\", and a name follows it: \"lines[].sku\"")]
    Brackets,
    #[error("a quoted name is not a JSON string")]
    Quotes,
}

/// Names that need no quotes.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | '@' | ' ' | ':' | '/'))
}

impl Path {
    /// Reads a text such as `a.b[].c`.
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        let mut steps = Vec::new();
        let mut rest = text;
        if rest.is_empty() {
            return Err(InvalidPath::Empty);
        }
        loop {
            let (name, after) = take_name(rest)?;
            steps.push(Step::Member(name));
            rest = after;
            while let Some(after) = rest.strip_prefix("[]") {
                steps.push(Step::Each);
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => break,
                None => return Err(InvalidPath::Brackets),
            }
        }
        if matches!(steps.last(), Some(Step::Each)) { Err(InvalidPath::Brackets) } else { Ok(Self(steps)) }
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The steps up to and including the last `[]`, and the names behind it.
    pub fn split_at_last_list(&self) -> (&[Step], Vec<&str>) {
        let place = self.0.iter().rposition(|step| *step == Step::Each).map_or(0, |at| at + 1);
        let names = self.0[place..].iter().filter_map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Each => None,
        });
        (&self.0[..place], names.collect())
    }

    /// The steps to the parent, and the name in it.
    pub fn split_last(&self) -> (&[Step], &str) {
        match self.0.split_last() {
            Some((Step::Member(name), parent)) => (parent, name),
            _ => unreachable!("a path ends with a name"),
        }
    }

    /// The path of a member beside this one.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.pop();
        steps.push(Step::Member(name.to_owned()));
        Self(steps)
    }
}

/// A name at the beginning of `text`, and what follows it.
fn take_name(text: &str) -> Result<(String, &str), InvalidPath> {
    if text.starts_with('"') {
        let mut is_escaped = false;
        let end = text.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            ends
        });
        let end = end.ok_or(InvalidPath::Quotes)?.0 + 1;
        let name = serde_json::from_str(&text[..end]).map_err(|_| InvalidPath::Quotes)?;
        return Ok((name, &text[end..]));
    }
    let end = text.find(['.', '[', ']', '"']).unwrap_or(text.len());
    match &text[..end] {
        "" if text.starts_with(['[', ']']) => Err(InvalidPath::Brackets),
        "" => Err(InvalidPath::EmptyName),
        name => Ok((name.to_owned(), &text[end..])),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_steps(&self.0, f)
    }
}

fn write_steps(steps: &[Step], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Each => f.write_str("[]")?,
            Step::Member(name) => {
                f.write_str(if index == 0 { "" } else { "." })?;
                if is_plain(name) { f.write_str(name)? } else { write!(f, "{}", serde_json::Value::from(name.as_str()))? }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_written_as_it_is_read() {
        for text in ["a", "a.b", "lines[].sku", "a[][].b", "\"odd.name\".price", "order-id.$ref"] {
            assert_eq!(Path::parse(text).map(|path| path.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_path_says_why() {
        for (text, want) in [
            ("", InvalidPath::Empty),
            ("a..b", InvalidPath::EmptyName),
            (".a", InvalidPath::EmptyName),
            ("a.", InvalidPath::EmptyName),
            ("[].a", InvalidPath::Brackets),
            ("a[]", InvalidPath::Brackets),
            ("a[0].b", InvalidPath::Brackets),
            ("a[]b", InvalidPath::Brackets),
            ("\"a", InvalidPath::Quotes),
            ("\"a\\q\"", InvalidPath::Quotes),
        ] {
            assert_eq!(Path::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn the_part_behind_the_last_list_is_names_only() {
        let path = Path::parse("a.b[].c[].d.e").expect("a path");
        let (base, names) = path.split_at_last_list();
        assert_eq!((base.len(), names), (5, vec!["d", "e"]));
        assert_eq!(path.sibling("f").to_string(), "a.b[].c[].d.f");
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_that_reads_back_or_no_path(text in ".*") {
            if let Ok(path) = Path::parse(&text) {
                prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
            }
        }
    }
}
