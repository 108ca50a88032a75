//! The figures, as a table or as JSON. Absolute numbers belong to one machine at one moment; the ratio is what can be quoted.

use std::fmt;

use comfy_table::{Table, presets};
use serde::Serialize;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// What it is compared with, and by how much.
    pub limit: Option<Limit>,
    pub target: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    pub name: &'static str,
    pub value: f64,
    pub ratio: f64,
}

impl Figure {
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, limit: None, target: None }
    }

    #[must_use]
    pub fn against(self, name: &'static str, value: f64) -> Self {
        let limit = Limit { name, value, ratio: self.value / value };
        Self { limit: Some(limit), ..self }
    }

    #[must_use]
    pub fn target(self, target: &'static str) -> Self {
        Self { target: Some(target), ..self }
    }
}

/// All figures of a run, and what they were measured on.
#[derive(Debug, Serialize)]
pub struct Report {
    outboxd: &'static str,
    postgres: String,
    processors: usize,
    data_in_memory: bool,
    figures: Vec<Figure>,
}

impl Report {
    pub fn new(postgres: &str, data_in_memory: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { outboxd: env!("CARGO_PKG_VERSION"), postgres: postgres.to_owned(), processors, data_in_memory, figures: Vec::new() }
    }

    pub fn extend(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.data_in_memory { "in memory" } else { "on disk" };
        writeln!(
            f,
            "outboxd {}, PostgreSQL {} with its data {place}, {} processors",
            self.outboxd, self.postgres, self.processors
        )?;
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["figure", "measured", "limit in the same run", "ratio", "target"]);
        for figure in &self.figures {
            let (limit, ratio) = figure.limit.as_ref().map_or_else(
                || (String::new(), String::new()),
                |limit| (format!("{} {}", number(limit.value), limit.name), format!("{:.2}", limit.ratio)),
            );
            let measured = format!("{} {}", number(figure.value), figure.unit);
            table.add_row([figure.name.clone(), measured, limit, ratio, figure.target.unwrap_or_default().to_owned()]);
        }
        writeln!(f, "{table}")
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            let digits = format!("{value:.0}");
            let head = digits.len() % 3;
            let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
            Some(digits[..head].to_owned()).filter(|head| !head.is_empty()).into_iter().chain(groups).collect::<Vec<_>>().join(",")
        }
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
