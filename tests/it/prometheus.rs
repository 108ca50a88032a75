//! What is shipped for Prometheus and Grafana: every name in it exists in the code, every command and section it names is there,
//! promtool takes it, and a real Prometheus that scrapes a real relay fires from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Parser;
use outboxd::cli::Cli;
use outboxd::telemetry::metrics::{METRICS, Metric, MetricKind};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::{Answer, Binary, NewRow, Receiver, TestDatabase, eventually, find_program, get, run_program};

const RULES: &str = "deploy/prometheus/outboxd.rules.yml";
const RULES_TEST: &str = "deploy/prometheus/outboxd.rules.test.yml";
const DASHBOARD: &str = "deploy/grafana/outboxd.json";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

// ---- what the files say

/// One rule, as far as these tests ask: the few shapes of YAML that the file uses.
#[derive(Default)]
struct Rule {
    alert: String,
    expr: String,
    fields: Vec<(String, String)>,
}

impl Rule {
    fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("{} has no {name}", self.alert), |(_, value)| value)
    }
}

fn rules() -> Vec<Rule> {
    let (mut rules, mut expression_of): (Vec<Rule>, Option<usize>) = (Vec::new(), None);
    for line in read(RULES).lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if let Some(name) = text.strip_prefix("- alert: ").or_else(|| text.strip_prefix("- record: ")) {
            let alert = if text.starts_with("- alert") { name } else { "" };
            rules.push(Rule { alert: alert.to_owned(), ..Rule::default() });
            expression_of = None;
            continue;
        }
        let Some(rule) = rules.last_mut() else { continue };
        if let Some(at) = expression_of.filter(|at| indent > *at) {
            expression_of = Some(at);
            rule.expr.push_str(text);
            rule.expr.push(' ');
        } else if let Some((name, value)) = text.split_once(':').filter(|_| !text.starts_with('#')) {
            expression_of = (name == "expr").then_some(indent);
            let value = value.trim().trim_matches('\'');
            if name == "expr" && value != "|" {
                rule.expr = value.to_owned();
            }
            rule.fields.push((name.to_owned(), value.to_owned()));
        }
    }
    rules
}

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| !rule.alert.is_empty()).collect()
}

/// Every expression and every query of a variable in the dashboard.
fn dashboard_expressions() -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| match value.as_str() {
                Some(text) if name == "expr" || (name == "query" && text != "prometheus") => found.push(text.to_owned()),
                _ => walk(value, found),
            }),
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(&serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON"), &mut found);
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The metrics of ours that an expression selects, each with the labels that its selector names.
fn selected(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("outboxd_") {
        if expression[..at].chars().next_back().is_some_and(is_word) {
            continue; // the middle of the name of a recorded series
        }
        let name: String = expression[at..].chars().take_while(|c| is_word(*c)).collect();
        let selector = expression[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = selector.map(|(inside, _)| inside.split(',').filter_map(label).collect()).unwrap_or_default();
        found.push((name, labels));
    }
    found
}

/// The label of one matcher, such as `state="open"`.
fn label(matcher: &str) -> Option<String> {
    let name: String = matcher.trim().chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// The declared metric of a series and its labels, `le` included where it has buckets.
fn declared(series: &str) -> Option<(&'static Metric, Vec<&'static str>)> {
    METRICS.iter().find_map(|metric| {
        let MetricKind::Histogram(_) = metric.kind else {
            return (metric.name == series).then(|| (metric, metric.labels.to_vec()));
        };
        let suffix = series.strip_prefix(metric.name)?;
        let mut labels = metric.labels.to_vec();
        labels.extend((suffix == "_bucket").then_some("le"));
        ["_bucket", "_sum", "_count"].contains(&suffix).then_some((metric, labels))
    })
}

/// What is wrong with the names in an expression.
fn mistakes(expression: &str) -> Vec<String> {
    const ADDED: [&str; 3] = ["job", "instance", "relay"];
    let (mut mistakes, mut known) = (Vec::new(), BTreeSet::from(ADDED));
    for (series, labels) in selected(expression) {
        let Some((_, declared)) = declared(&series) else {
            mistakes.push(format!("{series} is no metric"));
            continue;
        };
        for label in labels.iter().filter(|label| !declared.contains(&label.as_str()) && !ADDED.contains(&label.as_str())) {
            mistakes.push(format!("{series} has no label {label}"));
        }
        known.extend(declared);
    }
    for grouping in ["by (", "on (", "group_left ("] {
        let groups = expression.match_indices(grouping).filter_map(|(at, _)| expression[at + grouping.len()..].split_once(')'));
        for (inside, _) in groups {
            let unknown = inside.split(',').map(str::trim).filter(|label| !label.is_empty() && !known.contains(label));
            mistakes.extend(unknown.map(|label| format!("nothing has the label {label}: {expression}")));
        }
    }
    mistakes
}

#[test]
fn every_metric_in_the_rules_and_the_dashboard_is_one_of_ours_with_these_labels() {
    let rules: Vec<String> = rules().into_iter().map(|rule| rule.expr).collect();
    let dashboard = dashboard_expressions();
    assert!(rules.len() > 15 && dashboard.len() > 30, "{} and {}", rules.len(), dashboard.len());
    let found: Vec<String> = rules.iter().chain(&dashboard).flat_map(|expression| mistakes(expression)).collect();
    assert!(found.is_empty(), "{found:#?}");

    // And the check itself is no rubber stamp.
    for wrong in [
        "outboxd_dead_letter > 0",
        "sum by (relay, sink) (outboxd_dead_letters)",
        "outboxd_dead_letters{outcome=\"x\"}",
        "rate(outboxd_flush_duration_seconds[5m])",
    ] {
        assert_eq!(mistakes(wrong).len(), 1, "{wrong}");
    }
}

#[test]
fn every_metric_of_ours_is_on_the_dashboard() {
    let shown: BTreeSet<&str> = dashboard_expressions()
        .iter()
        .flat_map(|expression| selected(expression))
        .filter_map(|(series, _)| declared(&series).map(|(metric, _)| metric.name))
        .collect();
    let missing: Vec<&str> = METRICS.iter().map(|metric| metric.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn recorded_series_are_recorded() {
    let recorded: BTreeSet<String> =
        read(RULES).lines().filter_map(|line| line.trim().strip_prefix("- record: ").map(str::to_owned)).collect();
    for rule in rules() {
        let used = rule.expr.split(|c| !is_word(c)).filter(|word| word.contains(':'));
        used.for_each(|name| assert!(recorded.contains(name), "{}: {name}", rule.alert));
    }
}

#[test]
fn every_alert_says_what_it_is_what_to_run_and_where_to_read_and_has_a_unit_test() {
    let (operations, tests) = (read("docs/operations.md"), read(RULES_TEST));
    let anchors: BTreeSet<String> = operations
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(' ', "-").replace([',', '`'], ""))
        .collect();
    let alerts = alerts();
    assert!(alerts.len() >= 12);
    for alert in &alerts {
        assert!(["critical", "warning", "info"].contains(&alert.field("severity")), "{}", alert.alert);
        for text in ["summary", "description"] {
            assert!(alert.field(text).ends_with('.'), "{}: {text}", alert.alert);
        }
        let command = alert.field("command").replace("{{ $labels.handler }}", "billing").replace("{{ $labels.channel }}", "pager");
        if let Err(error) = Cli::try_parse_from(command.split(' ')) {
            panic!("{}: {command}\n{error}", alert.alert);
        }
        let anchor = alert.field("runbook").strip_prefix("docs/operations.md#").expect("the runbook is a section there");
        assert!(anchors.contains(anchor), "{}: {anchor}", alert.alert);
        assert!(tests.contains(&alert.alert), "{} has no unit test", alert.alert);
        assert!(operations.contains(&format!("`{}`", alert.alert)), "{} is not in docs/operations.md", alert.alert);
    }
}

// ---- promtool and Prometheus

#[tokio::test]
async fn promtool_takes_the_rules_their_unit_tests_and_the_sample() {
    let Some(promtool) = find_program(&["promtool"], &["--version"]).await else { return };
    let file = |name: &str| path(name).display().to_string();
    run_program(&promtool, &["check", "rules", &file(RULES)], "").await;
    run_program(&promtool, &["check", "config", &file("deploy/prometheus/prometheus.yml")], "").await;
    let tested = run_program(&promtool, &["test", "rules", &file(RULES_TEST)], "").await;
    assert!(tested.contains("SUCCESS"), "{tested}");
}

/// A relay with one handler that is refused and one that cannot be reached, and what it is run with.
async fn relay_in_trouble(database: &TestDatabase) -> (Receiver, crate::support::Running, String) {
    let refusing = Receiver::answering(|_| Answer::status(422)).await;
    let handlers = format!(
        "[[handlers]]\nname = \"refused\"\nkind = \"webhook\"\nurl = \"{}\"\negress = \"any\"\n\
         [[handlers]]\nname = \"unreachable\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\negress = \"any\"\n\
         [handlers.retry]\nbase = \"20ms\"\nmax_delay = \"50ms\"\n\
         [[handlers]]\nname = \"fine\"\nkind = \"discard\"\n",
        refusing.url()
    );
    let (running, address) = Binary::relay_with_http(database.url(), &handlers).serve().await;
    database.insert_events((0..10).map(|n| NewRow::new("order.placed").of("order", n))).await;
    eventually("the trouble is seen", || async {
        let text = get(&address, "/metrics").await.ok()?.1;
        let is_seen = text.contains("outboxd_dead_letters{handler=\"refused\"} 10")
            && text.contains("outboxd_handler_circuit_state{handler=\"unreachable\",state=\"open\"} 1");
        is_seen.then_some(())
    })
    .await;
    (refusing, running, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say_about_the_metrics_of_a_relay() {
    let Some(promtool) = find_program(&["promtool"], &["--version"]).await else { return };
    let database = TestDatabase::create().await;
    let (_receiver, running, address) = relay_in_trouble(&database).await;

    let (status, text) = get(&address, "/metrics").await.expect("the relay answers");
    let said = run_program(&promtool, &["check", "metrics"], &text).await;

    assert_eq!((status, said.as_str()), (200, ""));
    // What it would say, to be sure that it looks.
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it was just run");
    let mut stdin = child.stdin.take().expect("the input is piped");
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"# TYPE outboxd_things counter\noutboxd_things 1\n").await.expect("it reads");
    drop(stdin);
    assert!(!child.wait().await.expect("it ends").success());
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}

/// A Prometheus of the test's own; ends with its value.
pub struct Prometheus {
    address: String,
    _child: Child,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    async fn start(program: &Path, target: &str) -> Self {
        Self::start_with(program, &path(RULES), &[target], None).await
    }

    /// With these rules, which are evaluated every second, and an Alertmanager to tell.
    pub async fn start_with(program: &Path, rules: &Path, targets: &[&str], alertmanager: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let alerting = alertmanager
            .map(|address| format!("alerting:\n  alertmanagers:\n  - static_configs: [{{ targets: ['{address}'] }}]\n"))
            .unwrap_or_default();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n{alerting}\
             scrape_configs:\n  - job_name: outboxd\n    static_configs: [{{ targets: {targets:?} }}]\n",
            rules.display()
        );
        std::fs::write(directory.path().join("prometheus.yml"), config).expect("the directory is ours");
        // It cannot be given port 0, so another process may be faster to take the free one: then the next is tried.
        for _ in 0..10 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
            let address = listener.local_addr().expect("a bound socket has an address").to_string();
            drop(listener);
            let mut command = Command::new(program);
            command.arg(format!("--web.listen-address={address}")).current_dir(directory.path());
            command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            let mut child = command.spawn().expect("it was just found");
            let is_up = eventually("Prometheus is ready or gone", || {
                let is_gone = child.try_wait().expect("the process is our child").is_some();
                let address = address.clone();
                async move {
                    let answer = get(&address, "/-/ready").await;
                    if is_gone { Some(false) } else { answer.is_ok_and(|(status, _)| status == 200).then_some(true) }
                }
            })
            .await;
            if is_up {
                return Self { address, _child: child, _directory: directory };
            }
        }
        panic!("Prometheus does not start");
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let (_, body) = get(&self.address, path).await.ok()?;
        serde_json::from_str(&body).ok()
    }

    /// The value of an expression that gives one.
    async fn query(&self, expression: &str) -> Value {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.ask(&format!("/api/v1/query?query={encoded}")).await.expect("Prometheus answers")
    }

    async fn alert(&self, name: &str, handler: &str, state: &str) -> Option<Value> {
        let answer = self.ask("/api/v1/alerts").await?;
        let is_it = |alert: &&Value| {
            alert["labels"]["alertname"] == name && alert["labels"]["handler"] == handler && alert["state"] == state
        };
        answer["data"]["alerts"].as_array()?.iter().find(is_it).cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_fires_for_real_dead_letters_and_sees_none_once_a_person_has_decided() {
    let Some(program) = find_program(&["prometheus"], &["--version"]).await else { return };
    let database = TestDatabase::create().await;
    let (_receiver, running, address) = relay_in_trouble(&database).await;
    let prometheus = Prometheus::start(&program, &address).await;

    let alert = eventually("the dead letters fire", || prometheus.alert("OutboxdDeadLetters", "refused", "firing")).await;
    assert_eq!(alert["labels"]["relay"], "shop");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["annotations"]["summary"], "Dead letters of handler refused in relay shop: 10.");
    assert_eq!(alert["annotations"]["command"], "outboxd dead-letters list --handler refused");
    eventually("the open circuit is pending", || prometheus.alert("OutboxdCircuitOpen", "unreachable", "pending")).await;

    // Every rule was evaluated without an error, on what a relay really exposes.
    let health = eventually("every rule was evaluated", || async {
        let answer = prometheus.ask("/api/v1/rules").await?;
        let rules: Vec<Value> =
            answer["data"]["groups"].as_array()?.iter().flat_map(|group| group["rules"].as_array().cloned()).flatten().collect();
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    })
    .await;
    for rule in &health {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert_eq!(health.len(), rules().len());
    // And every expression of the dashboard.
    for expression in dashboard_expressions().iter().filter(|expression| !expression.starts_with("label_values(")) {
        let filled = [("$instance", ".*"), ("$handler", ".*"), ("$__rate_interval", "1m")]
            .iter()
            .fold(expression.clone(), |text, (name, value)| text.replace(name, value));
        assert_eq!(prometheus.query(&filled).await["status"], "success", "{filled}");
    }
    let told = prometheus.query("relay_handler:outboxd_dead_letters:sum{handler=\"refused\"}").await;
    assert_eq!(told["data"]["result"][0]["value"][1], "10");
    assert!(prometheus.alert("OutboxdDeadLetters", "fine", "firing").await.is_none());

    let discarded = Binary::relay(database.url(), "")
        .run(&["dead-letters", "discard", "--handler", "refused", "--because", "a test", "--yes"])
        .await;
    assert_eq!(discarded.code, Some(0), "{}", discarded.stderr);
    eventually("the relay has none any more", || async {
        let none = prometheus.query("relay_handler:outboxd_dead_letters:sum{handler=\"refused\"} == 0").await;
        none["data"]["result"].as_array().is_some_and(|found| found.len() == 1).then_some(())
    })
    .await;
    running.terminate();
    assert_eq!(running.finish().await.code, Some(0));
}
