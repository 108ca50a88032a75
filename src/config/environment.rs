//! The environment of a configuration: environment variables and files that its text refers to. Behind a trait, so that a test
//! needs neither. Never prints a value, which may be a secret.

use std::io;
use std::path::{Path, PathBuf};

/// The source of variables and files.
pub trait Environment {
    /// `None` if the variable is not set.
    fn variable(&self, name: &str) -> Option<String>;

    fn read_file(&self, path: &Path) -> io::Result<String>;

    /// The files in a folder, sorted; those in its folders are not among them.
    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no folder {}", path.display())))
    }

    /// The base of relative paths in the configuration.
    fn directory(&self) -> &Path;
}

/// The environment of this process.
#[derive(Debug)]
pub struct ProcessEnvironment {
    directory: PathBuf,
}

impl ProcessEnvironment {
    /// For a configuration file: its relative paths start at its own directory, not at the working directory of the daemon.
    pub fn of_file(config: &Path) -> Self {
        Self { directory: config.parent().map(Path::to_path_buf).unwrap_or_default() }
    }
}

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let paths = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let mut files: Vec<PathBuf> = paths.into_iter().filter(|path| path.is_file()).collect();
        files.sort();
        Ok(files)
    }

    fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$${` stands for a literal `${`. As in a shell, the default also takes the place
/// of an empty variable. The error is a text for a [`Mistake`](crate::settings::Mistake).
pub(super) fn expand(text: &str, environment: &dyn Environment) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = inside.find('}').ok_or("a \"${\" is not closed; write \"$${\" for a literal one")?;
        expanded.push_str(&variable(&inside[..end], environment)?);
        rest = &inside[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn variable(inside: &str, environment: &dyn Environment) -> Result<String, String> {
    let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
    if !is_variable_name(name) {
        return Err("between \"${\" and \"}\" write a name such as \"${NAME}\" or \"${NAME:-default}\"; \
                    write \"$${\" for a literal \"${\""
            .to_owned());
    }
    match (environment.variable(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("the environment variable \"{name}\" is not set")),
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// An environment made of what a test says.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FakeEnvironment {
    variables: std::collections::BTreeMap<String, String>,
    files: std::collections::BTreeMap<PathBuf, String>,
}

#[cfg(test)]
impl FakeEnvironment {
    /// One with a database, so that a test can speak of something else.
    pub(crate) fn with_database() -> Self {
        Self::default().variable("DATABASE_URL", "postgres://app:pass@localhost/app")
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.to_owned());
        self
    }
}

#[cfg(test)]
impl Environment for FakeEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "No such file or directory (os error 2)"))
    }

    fn list_directory(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let files: Vec<PathBuf> = self.files.keys().filter(|file| file.parent() == Some(path)).cloned().collect();
        match files.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "No such file or directory (os error 2)")),
            false => Ok(files),
        }
    }

    fn directory(&self) -> &Path {
        Path::new("/etc/outboxd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_defaults_taken_as_in_a_shell() {
        let environment = FakeEnvironment::default().variable("HOST", "db").variable("EMPTY", "");
        for (text, want) in [
            ("plain", "plain"),
            ("${HOST}", "db"),
            ("a-${HOST}:${PORT:-5432}/x", "a-db:5432/x"),
            ("${EMPTY}", ""),
            ("${EMPTY:-full}", "full"),
            ("${PORT:-}", ""),
            ("$${HOST} costs 5$ or $HOST", "${HOST} costs 5$ or $HOST"),
            ("$", "$"),
        ] {
            assert_eq!(expand(text, &environment), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let environment = FakeEnvironment::default();
        for (text, want) in [
            ("${NOPE}", "the environment variable \"NOPE\" is not set"),
            ("x${NOPE", "is not closed"),
            ("${}", "write a name"),
            ("${9A}", "write a name"),
            ("${A-b}", "write a name"),
        ] {
            let error = expand(text, &environment).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
