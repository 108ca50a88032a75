//! From a file or a text to a checked `Config`, or to every mistake in it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use toml::Table;

use super::check::read_config;
use super::contracts;
use super::environment::{Environment, ProcessEnvironment};
use super::fields::{Kinds, SECTIONS};
use super::overrides::Overrides;
use super::resolve::resolve;
use super::{ChannelConfig, ClientConfig, Config, Contracts, Database, HandlerConfig, Http, Outbox, fields, handler_path};
use crate::domain::Adoption;
use crate::settings::{Mistake, Mistakes};

/// The reason why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not read the configuration {}{}", path.display(), hint(cause))]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{}:{error}", path.display())]
    Syntax { path: PathBuf, error: SyntaxError },
    #[error("{}", list(path, mistakes))]
    Mistakes { path: PathBuf, mistakes: Vec<Mistake> },
}

impl ConfigError {
    /// Each mistake as text; empty if the file could not even be read.
    pub fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Unreadable { .. } => Vec::new(),
            Self::Syntax { error, .. } => vec![error.to_string()],
            Self::Mistakes { mistakes, .. } => mistakes.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A syntax error in the TOML. Prints as `line:column: message`, the line, and a caret below the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Both count from 1; the column counts characters.
    pub line: usize,
    pub column: usize,
    pub text: String,
    source_line: String,
}

/// A configuration as far as it could be read, with its mistakes. Becomes a `Config` only without mistakes.
pub struct Draft {
    config: Config,
    resolved: Table,
    unresolved: Vec<Mistake>,
    failed: BTreeSet<String>,
    checked: Vec<Mistake>,
}

/// Reads a file with the environment of this process; relative paths in it are relative to its directory.
pub fn load(path: &Path, overrides: &Overrides, kinds: Kinds) -> Result<Draft, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    read_with(&text, overrides, &ProcessEnvironment::of_file(path), kinds)
        .map_err(|error| ConfigError::Syntax { path: path.to_owned(), error })
}

/// Reads and checks a text, except for the settings of the handler kinds. If there is a syntax error, it is the only mistake.
pub fn parse(text: &str, environment: &dyn Environment, kinds: Kinds) -> Result<Config, Vec<Mistake>> {
    let draft = read(text, environment, kinds).map_err(|error| vec![Mistake { path: String::new(), text: error.to_string() }])?;
    draft.finish(Vec::new())
}

/// Reads `[database]` and `[outbox]` of a file, for a command that needs only Postgres. Mistakes in other sections do not matter to it; if the
/// text is not valid TOML, only these two sections are parsed.
pub fn load_database(path: &Path, kinds: Kinds) -> Result<(Database, Outbox, usize), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    let environment = ProcessEnvironment::of_file(path);
    let draft = match read(&text, &environment, kinds) {
        Ok(draft) => draft,
        Err(error) => {
            let salvaged = read(&only_database(&text), &environment, kinds);
            let draft = salvaged.map_err(|_| ConfigError::Syntax { path: path.to_owned(), error })?;
            return draft
                .database()
                .map(|(database, outbox, others)| (database, outbox, others + 1))
                .map_err(|mistakes| ConfigError::Mistakes { path: path.to_owned(), mistakes });
        }
    };
    draft.database().map_err(|mistakes| ConfigError::Mistakes { path: path.to_owned(), mistakes })
}

/// The lines of these two sections; the lines of the others are empty, so that every line keeps its number.
fn only_database(text: &str) -> String {
    let mut is_kept = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let bare = line.split('#').next().unwrap_or_default().trim();
        if bare.starts_with('[') {
            is_kept = matches!(bare, "[database]" | "[outbox]");
        }
        kept.push_str(if is_kept { line } else { "" });
        kept.push('\n');
    }
    kept
}

/// Reads as much of a text as possible; the mistakes are in the draft.
pub fn read(text: &str, environment: &dyn Environment, kinds: Kinds) -> Result<Draft, SyntaxError> {
    read_with(text, &Overrides::default(), environment, kinds)
}

/// [`read`], with values of the caller instead of those of the text.
pub fn read_with(text: &str, overrides: &Overrides, environment: &dyn Environment, kinds: Kinds) -> Result<Draft, SyntaxError> {
    let mut document = text.parse::<Table>().map_err(|error| SyntaxError::locate(text, &error))?;
    let (unresolved, checked) = (Mistakes::default(), Mistakes::default());
    overrides.remove_from(&mut document);
    let mut resolved = resolve(document, environment, kinds, &unresolved);
    overrides.put_into(&mut resolved.table);
    let mut config = read_config(&resolved.table, &checked);
    contracts::load(&mut config, environment, &checked);
    Ok(Draft {
        config,
        resolved: resolved.table,
        unresolved: unresolved.into_vec(),
        failed: resolved.failed,
        checked: checked.into_vec(),
    })
}

impl Draft {
    /// The handlers as far as they could be read, for the check by their kinds.
    pub fn handlers(&self) -> &[HandlerConfig] {
        &self.config.handlers
    }

    /// The channels as far as they could be read, for the check by their kinds.
    pub fn channels(&self) -> &[ChannelConfig] {
        &self.config.alerts.channels
    }

    /// `[outbox]` as far as it could be read, for commands that need no database.
    pub fn outbox(&self) -> &Outbox {
        &self.config.outbox
    }

    /// `[http]` as far as it could be read, for the command that asks a relay for its health.
    pub fn http(&self) -> &Http {
        &self.config.http
    }

    /// `[[adopt]]` as far as it could be read, for a command that gets its database elsewhere.
    pub fn adoptions(&self) -> &[Adoption] {
        &self.config.adopt
    }

    /// The document with environment and files filled in. Holds secrets.
    pub fn resolved(&self) -> &Table {
        &self.resolved
    }

    /// The part for commands that need only Postgres: `[database]` and `[outbox]` with their mistakes, and the number of mistakes in other
    /// sections, such as a missing secret, which these commands do not report.
    pub fn database(self) -> Result<(Database, Outbox, usize), Vec<Mistake>> {
        let (database, outbox) = (self.config.database.clone(), self.config.outbox.clone());
        let Err(mistakes) = self.finish(Vec::new()) else { return Ok((database, outbox, 0)) };
        let is_ours = |path: &str| path == "database" || path.starts_with("database.") || path == "outbox.schema";
        let (ours, others): (Vec<_>, Vec<_>) = mistakes.into_iter().partition(|mistake| is_ours(&mistake.path));
        if ours.is_empty() { Ok((database, outbox, others.len())) } else { Err(ours) }
    }

    /// The part for commands that need only contracts: the contracts, handlers and clients, with the mistakes that concern contracts. These
    /// commands do not report other mistakes, such as a missing secret.
    pub fn into_contracts(self) -> Result<(Contracts, Vec<HandlerConfig>, Vec<ClientConfig>), Vec<Mistake>> {
        let Config { contracts, handlers, clients, .. } = self.config.clone();
        let is_receiver = |path: &str| ["handlers", "projections", "clients"].iter().any(|list| path.starts_with(list));
        let is_ours = |mistake: &Mistake| {
            let path = mistake.path.as_str();
            path == "contracts" || path.starts_with("contracts.") || (is_receiver(path) && path.ends_with(".events"))
        };
        let ours: Vec<Mistake> = self.finish(Vec::new()).err().unwrap_or_default().into_iter().filter(is_ours).collect();
        if ours.is_empty() { Ok((contracts, handlers, clients)) } else { Err(ours) }
    }

    /// The configuration, if there is no mistake; `further` are the mistakes that the kinds have found.
    pub fn finish(self, further: Vec<Mistake>) -> Result<Config, Vec<Mistake>> {
        let mut mistakes = self.unresolved;
        // A missing variable or file leaves a placeholder; mistakes of the placeholder are not reported.
        mistakes.extend(self.checked.into_iter().chain(further).filter(|mistake| !self.failed.contains(&mistake.path)));
        // Two entries of one name have one path: a mistake that both have is reported once, beside the duplicate name.
        let mut told = BTreeSet::new();
        mistakes.retain(|mistake| told.insert(mistake.to_string()));
        // Sorted by section of the file; within a section in the order of the checks.
        mistakes.sort_by_key(|mistake| place(&self.config.handlers, &mistake.path));
        if mistakes.is_empty() { Ok(self.config) } else { Err(mistakes) }
    }
}

impl fmt::Debug for Draft {
    /// Without the resolved document, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SyntaxError {
    fn locate(text: &str, error: &toml::de::Error) -> Self {
        let mut start = error.span().map_or(0, |span| span.start).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: error.message().trim().replace('\n', ", "),
            source_line: text[line_start..].lines().next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, text, source_line } = self;
        let number = line.to_string();
        // Tabs stay tabs, so that the caret is below its character with any tab width.
        let indent: String = source_line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let margin = " ".repeat(number.len());
        write!(f, "{line}:{column}: {text}\n  {number} | {source_line}\n  {margin} | {indent}^")
    }
}

impl std::error::Error for SyntaxError {}

/// The rank of a path in the order of the reference: the document itself, the sections, each handler, then the adopted tables.
fn place(handlers: &[HandlerConfig], path: &str) -> usize {
    let is_at = |owner: &str| path.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let section = SECTIONS.iter().position(|section| is_at(section.name));
    let handler = handlers.iter().enumerate().position(|(index, handler)| is_at(&handler_path(index, &handler.name)));
    match (section, handler) {
        (Some(section), _) => 1 + section,
        (_, Some(handler)) => 1 + SECTIONS.len() + handler,
        _ if path.starts_with(fields::PROJECTIONS) => 1 + SECTIONS.len() + handlers.len(),
        _ if path.starts_with(fields::CLIENTS) => 2 + SECTIONS.len() + handlers.len(),
        _ if path.starts_with(fields::ADOPT) => 1 + SECTIONS.len() + handlers.len(),
        _ => 0,
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound => "; name another with --config, or start with `outboxd config reference > outboxd.toml`",
        _ => "",
    }
}

fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let count = if mistakes.len() == 1 { "1 mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) };
    let lines: String = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    format!("{count} in {}{lines}", path.display())
}

#[cfg(test)]
mod tests {
    use super::super::environment::FakeEnvironment;
    use super::*;

    const NO_KINDS: Kinds = Kinds { handlers: |_| None, channels: |_| None };

    fn parsed(text: &str, environment: &FakeEnvironment) -> Result<Config, Vec<String>> {
        parse(text, environment, NO_KINDS).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_database_address_comes_from_the_environment_unless_given() {
        let environment = FakeEnvironment::with_database();
        let url = |text: &str| parsed(text, &environment).expect("valid").database.url.expose().to_owned();
        assert_eq!(url(""), "postgres://app:pass@localhost/app");
        assert_eq!(url("[database]\nurl = \"postgres://other/x\""), "postgres://other/x");
        let missing = parsed("", &FakeEnvironment::default()).expect_err("no address");
        assert!(missing[0].starts_with("database.url: is not set, and neither is the environment variable"), "{missing:?}");
    }

    #[test]
    fn a_missing_variable_is_one_mistake_whatever_its_setting_wants() {
        let text = "[relay]\nlease = \"${LEASE}\"\n[[handlers]]\nname = \"x\"\nkind = \"k\"\ntimeout = \"${TIMEOUT}\"";
        assert_eq!(
            parsed(text, &FakeEnvironment::with_database()).expect_err("missing"),
            [
                "relay.lease: the environment variable \"LEASE\" is not set",
                "handlers.x.timeout: the environment variable \"TIMEOUT\" is not set",
            ]
        );
    }

    #[test]
    fn a_syntax_error_shows_its_place() {
        let mistakes = parsed("[relay]\nname = \"a\"\nlease = 15s\n", &FakeEnvironment::with_database()).expect_err("no TOML");
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].starts_with("3:"), "{}", mistakes[0]);
        assert!(mistakes[0].contains("\n  3 | lease = 15s\n    | "), "{}", mistakes[0]);
    }

    #[test]
    fn the_caret_survives_odd_characters_and_a_cut_off_text() {
        for text in ["é = \u{1F600}", "\ta = [", "a = \"", "[", "=", "a = 1\r\nb = \r\n", "\u{feff}x"] {
            let error = read(text, &FakeEnvironment::default(), NO_KINDS).expect_err(text);
            assert!(error.to_string().lines().count() == 3, "{error}");
        }
    }

    #[test]
    fn what_is_wrong_elsewhere_keeps_nobody_from_the_database() {
        let good = "[database]\nurl = \"postgres://db/x\"\n[outbox]\nschema = \"mine\"\n";
        for broken in
            ["[[handlers]]\nname = \"a\"\nkind = \"k\"\ntimeout = \"${NOPE}\"\n", "[relay]\nlease = \"never\"\n", "nonsense = 1\n"]
        {
            let text = if broken.starts_with("nonsense") { format!("{broken}{good}") } else { format!("{good}{broken}") };
            let draft = read(&text, &FakeEnvironment::default(), NO_KINDS).expect("it is TOML");
            let (database, outbox, others) = draft.database().unwrap_or_else(|mistakes| panic!("{broken}: {mistakes:?}"));
            assert_eq!((database.url.expose(), outbox.schema.as_str(), others), ("postgres://db/x", "mine", 1), "{broken}");
        }
        let text = format!("# [relay]\n[[handlers]]\nname = \"a\n{good}[relay]\nlease = 15s\n");
        assert!(read(&text, &FakeEnvironment::default(), NO_KINDS).is_err());
        let draft = read(&only_database(&text), &FakeEnvironment::default(), NO_KINDS).expect("the rest is left out");
        assert_eq!(draft.database().expect("it is well").0.url.expose(), "postgres://db/x");
        let own = "[database]\nurl = \"mysql://x\"\n[relay]\nlease = \"never\"\n";
        let mistakes = read(own, &FakeEnvironment::default(), NO_KINDS).expect("it is TOML").database().expect_err("no Postgres");
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].to_string().starts_with("database.url: "), "{mistakes:?}");
    }

    #[test]
    fn an_unreadable_file_says_what_to_do() {
        let error = load(Path::new("/nonexistent/outboxd.toml"), &Overrides::default(), NO_KINDS).expect_err("there is none");
        assert!(error.to_string().contains("outboxd config reference"), "{error}");
    }
}
