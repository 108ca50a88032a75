//! Compatibility within a version: whether readers that know one schema tolerate what a producer of another schema emits.
//!
//! The check is a recursion over the two schemas (`rules`, over `layers`). It must prove that everything the producer's schema
//! emits is accepted by the reader's schema; then the change is "compatible". Where it finds no proof, it makes up values
//! (`witness`) and checks them with a validator. A change is "breaking" only with a value that one schema accepts and the other refuses.
//! Everything else is unknown, with the reason.
//!
//! A producer is closed: it emits the members that its schema declares, and no others, unless `additionalProperties` or
//! `patternProperties` describe more. A reader is open: it takes what its schema lets through. So an optional member that is
//! added is compatible, unless the published schema forbids unknown members.

pub(in crate::contracts) mod layers;
mod rules;
mod witness;

use std::fmt;

use serde_json::Value;

use super::schema::Schema;
use layers::Layers;
use rules::Comparison;

/// Who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Readers that know the published schema receive what is emitted from now on.
    Forward,
    /// Readers of the new schema receive what was emitted before: the log keeps it.
    Backward,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Proven.
    Compatible,
    /// There is an instance that the producer emits and the reader refuses.
    Breaking,
    /// Neither could be shown. Refused like a breaking change, unless an operator allows it with a reason.
    Unknown,
}

/// One thing that readers may not bear.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub direction: Direction,
    /// Where: `lines[].sku`; empty for the payload itself.
    pub path: String,
    /// The keyword that is broken: `required`, `maxLength`.
    pub rule: &'static str,
    /// What was compared, for display.
    pub text: String,
    /// A whole payload that the producer may emit and the reader refuses. `None`: unknown, and `text` says why.
    pub instance: Option<Value>,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::Breaking => "breaking",
            Self::Unknown => "unknown",
        }
    }

    /// The verdict that these findings make.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().any(|finding| finding.instance.is_some()) {
            true => Self::Breaking,
            false if findings.is_empty() => Self::Compatible,
            false => Self::Unknown,
        }
    }
}

impl Finding {
    /// What an operator names to allow it: direction, path and rule.
    pub fn key(&self) -> String {
        let parts = [self.direction.as_str(), &self.path, self.rule];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The published schema cannot be compiled any more.
    pub(super) fn unreadable() -> Self {
        let text = "the published schema cannot be used, so nothing can be compared with it".to_owned();
        Self { direction: Direction::Forward, path: String::new(), rule: "schema", text, instance: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the payload" } else { &self.path };
        write!(f, "{}: {path}: {}: {}", self.direction.as_str(), self.rule, self.text)?;
        match &self.instance {
            Some(instance) => write!(f, "; for example {instance}"),
            None => write!(f, "; this could be neither proven nor refuted"),
        }
    }
}

/// Compares the published schema of a version with a new one of the same version, in both directions.
pub fn compare(published: &Schema, new: &Schema) -> Vec<Finding> {
    let forward = findings(new.value(), published.value(), Direction::Forward);
    forward.into_iter().chain(findings(published.value(), new.value(), Direction::Backward)).collect()
}

/// What a producer of `writer` may emit and readers of `reader` do not bear.
pub fn findings(writer: &Value, reader: &Value, direction: Direction) -> Vec<Finding> {
    let mut comparison = Comparison::default();
    let found = comparison.contained(&Layers::of(writer, writer), &Layers::of(reader, reader));
    let mut findings: Vec<Finding> = Vec::new();
    for local in found {
        let finding = Finding { direction, path: local.path, rule: local.rule, text: local.text, instance: local.instance };
        let is_told = |told: &Finding| told.path == finding.path && told.rule == finding.rule && told.text == finding.text;
        if !findings.iter().any(is_told) {
            findings.push(finding);
        }
    }
    findings
}

#[cfg(test)]
mod tests;
