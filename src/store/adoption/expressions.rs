//! Expressions: from the configuration of an adopted table and its columns to the SQL that makes an event of one row.
//!
//! The expressions do not fail on any row, because a failure would fail a transaction of an application that knows nothing of
//! outboxd. The one exception is a payload above the bound of the log: there is no true event to record in its place.

use super::table::FoundTable;
use super::text::{literal, quoted};
use crate::domain::{Adoption, Source};

/// Columns of the log, each with the expression that fills it; `n` is the row.
#[derive(Debug, Clone)]
pub(super) struct Expressions {
    pub columns: String,
    pub values: String,
    /// In which order rows that are there already were probably inserted.
    pub order: String,
    /// The column with the id; without one it is unknown which rows have an event.
    pub id: Option<String>,
    /// That column is what the event has as its id.
    pub is_uuid: bool,
}

/// The source of a part: the SQL of its value, and its type; of a constant, `text`.
struct Part {
    sql: String,
    kind: String,
    is_column: bool,
}

struct Builder<'a> {
    outbox: String,
    adoption: &'a Adoption,
    table: &'a FoundTable,
    mistakes: Vec<String>,
}

/// The expressions, or everything that the table has not as the configuration says.
pub(super) fn build(outbox: &str, adoption: &Adoption, table: &FoundTable) -> Result<Expressions, Vec<String>> {
    let mut builder = Builder { outbox: quoted(outbox), adoption, table, mistakes: Vec::new() };
    let expressions = builder.expressions();
    if builder.mistakes.is_empty() { Ok(expressions) } else { Err(builder.mistakes) }
}

impl Builder<'_> {
    fn expressions(&mut self) -> Expressions {
        let adoption = self.adoption;
        let id = self.part("id", adoption.id.as_ref());
        let event_type = self.part("type", adoption.event_type.as_ref());
        let aggregate_type = self.part("aggregate_type", adoption.aggregate_type.as_ref());
        let aggregate_id = self.part("aggregate_id", adoption.aggregate_id.as_ref());
        let version = self.part("aggregate_version", adoption.aggregate_version.as_ref());
        let payload = self.part("payload", adoption.payload.as_ref());
        let occurred_at = self.part("occurred_at", adoption.occurred_at.as_ref());
        let identity = [&event_type, &aggregate_type, &aggregate_id, &payload];
        let mut filled = vec![("id", self.id(id.as_ref(), &identity)), ("type", event_kind(event_type.as_ref()))];
        filled.push(("aggregate_type", as_text(aggregate_type.as_ref())));
        filled.push(("aggregate_id", as_text(aggregate_id.as_ref())));
        filled.push(("aggregate_version", self.version(version.as_ref())));
        filled.push(("payload", self.payload(payload.as_ref())));
        filled.push(("headers", self.headers()));
        filled.push(("occurred_at", self.moment(occurred_at.as_ref())));
        filled.retain(|(_, expression)| expression != "null");
        let (columns, values): (Vec<_>, Vec<_>) = filled.into_iter().unzip();
        Expressions {
            columns: columns.join(", "),
            values: values.join(",\n       "),
            order: order(occurred_at.as_ref(), id.as_ref()),
            is_uuid: id.as_ref().is_some_and(|id| id.kind == "uuid"),
            id: id.map(|id| id.sql),
        }
    }

    /// `None`: nothing says where it comes from, or the table need not have it.
    fn part(&mut self, setting: &str, source: Option<&Source>) -> Option<Part> {
        let names = match source? {
            Source::Constant(text) => {
                return Some(Part { sql: format!("{}::text", literal(text)), kind: "text".to_owned(), is_column: false });
            }
            Source::Columns { names, .. } => names,
        };
        let column = names.iter().find_map(|name| self.table.columns.iter().find(|column| column.name == *name));
        if let Some(column) = column {
            return Some(Part { sql: format!("n.{}", quoted(&column.name)), kind: column.kind.clone(), is_column: true });
        }
        if matches!(source?, Source::Columns { is_required: true, .. }) {
            let known: Vec<&str> = self.table.columns.iter().map(|column| column.name.as_str()).collect();
            let wanted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
            self.mistake(setting, &format!("there is no column {}; the table has {}", wanted.join(" or "), known.join(", ")));
        }
        None
    }

    fn mistake(&mut self, setting: &str, text: &str) {
        self.mistakes.push(format!("adopt.{}.{setting}: {text}", self.adoption.table));
    }

    fn id(&self, id: Option<&Part>, identity: &[&Option<Part>]) -> String {
        let Some(Part { sql, kind, .. }) = id else { return "null".to_owned() };
        if kind == "uuid" {
            return format!("coalesce({sql}, gen_random_uuid())");
        }
        let rest = identity.iter().map(|part| match part {
            Some(Part { sql, kind, .. }) if kind == "bytea" => format!("md5({sql})"),
            part => as_text(part.as_ref()),
        });
        let parts: Vec<String> = [literal(&self.adoption.table.to_string()), as_text(id)].into_iter().chain(rest).collect();
        let derived = format!("{}.adopted_id(variadic array[{}]::text[])", self.outbox, parts.join(", "));
        let is_uuid = format!("{sql}::text ~* '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'");
        format!("case when {sql} is null then gen_random_uuid() when {is_uuid} then ({sql}::text)::uuid else {derived} end")
    }

    fn version(&mut self, version: Option<&Part>) -> String {
        match version {
            None => "null".to_owned(),
            Some(Part { sql, kind, .. }) if matches!(kind.as_str(), "smallint" | "integer" | "bigint") => sql.clone(),
            Some(Part { kind, .. }) => {
                let text = format!("the column has the type {kind}, expected smallint, integer or bigint");
                self.mistake("aggregate_version", &text);
                "null".to_owned()
            }
        }
    }

    fn payload(&self, payload: Option<&Part>) -> String {
        let Some(Part { sql, kind, .. }) = payload else { return "'{}'::json".to_owned() };
        match kind.as_str() {
            "json" => format!("case when json_typeof({sql}) = 'object' then {sql} else json_build_object('value', {sql}) end"),
            "jsonb" => {
                format!("case when jsonb_typeof({sql}) = 'object' then {sql}::json else json_build_object('value', {sql}) end")
            }
            "bytea" => format!("{}.adopted_bytes({sql})", self.outbox),
            _ => format!("{}.adopted_object({sql}::text)", self.outbox),
        }
    }

    fn headers(&mut self) -> String {
        let adoption = self.adoption;
        let mut parts = Vec::new();
        if let Some(trace) = self.part("trace_context", adoption.trace_context.as_ref()) {
            // Debezium's column is a file of Java properties; of this value none of its escapes are part.
            let value = format!("substring({}::text from '(?n)^traceparent=([0-9a-f-]{{55}})[[:space:]]*$')", trace.sql);
            parts.push(format!("jsonb_strip_nulls(jsonb_build_object('traceparent', {value}))"));
        }
        if let Some(headers) = self.part("headers", adoption.headers.as_ref()) {
            parts.push(format!("{}.adopted_headers({})", self.outbox, as_text(Some(&headers))));
        }
        for (name, source) in &adoption.extra_headers {
            if let Some(part) = self.part("extra_headers", Some(source)) {
                let value = as_text(Some(&part));
                parts.push(format!("jsonb_strip_nulls(jsonb_build_object({}, {value}))", literal(name)));
            }
        }
        if parts.is_empty() { "null".to_owned() } else { parts.join("\n         || ") }
    }

    fn moment(&mut self, moment: Option<&Part>) -> String {
        let Some(Part { sql, kind, .. }) = moment else { return "null".to_owned() };
        let (is_known, value) = match kind.as_str() {
            "timestamp with time zone" => (format!("isfinite({sql})"), sql.clone()),
            "timestamp without time zone" => (format!("isfinite({sql})"), format!("{sql} at time zone 'UTC'")),
            // Until the end of the year 9999: a number beyond is no time.
            "bigint" | "numeric" | "double precision" => {
                (format!("{sql} between 0 and 253402300799999"), format!("to_timestamp(({sql} / 1000.0)::double precision)"))
            }
            other => {
                let text = format!("the column has the type {other}, expected a timestamp, or a bigint with milliseconds");
                self.mistake("occurred_at", &text);
                return "null".to_owned();
            }
        };
        format!("case when {is_known} then {value} else clock_timestamp() end")
    }
}

fn as_text(part: Option<&Part>) -> String {
    part.map_or_else(|| "null".to_owned(), |part| format!("{}::text", part.sql.trim_end_matches("::text")))
}

/// The log takes no event without a type and none with a long one; handlers that want every type get it all the same.
fn event_kind(part: Option<&Part>) -> String {
    let text = as_text(part);
    format!("coalesce(nullif(case when octet_length({text}) > 255 then left({text}, 63) else {text} end, ''), 'unknown')")
}

fn order(occurred_at: Option<&Part>, id: Option<&Part>) -> String {
    let is_number = |part: &&Part| matches!(part.kind.as_str(), "smallint" | "integer" | "bigint");
    let known = [occurred_at.filter(|part| part.is_column), id.filter(is_number)];
    let columns = known.into_iter().flatten().map(|part| format!("{} nulls first", part.sql));
    // The last resort is which transaction wrote them, by age, and which of its statements. Where they lie says less: each session fills
    // pages of its own, and goes back to those with room.
    let written = ["age(n.xmin) desc", "n.cmin::text::bigint", "n.tableoid", "n.ctid"];
    columns.chain(written.map(str::to_owned)).collect::<Vec<_>>().join(", ")
}
