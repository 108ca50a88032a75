//! The Helm chart and the kustomizations: rendered by Helm and kubectl, validated against the schemas of the Kubernetes API, and compared
//! with what the relay needs.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outboxd::app::{self, STOP_MARGIN};
use outboxd::config::Environment;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{checker, root};

/// What the application of `shop-with-sidecar` may take to stop; the sidecar's drain comes after it, in the same grace period.
const APPLICATION_STOP: Duration = Duration::from_secs(30);

/// Renders with the script that `make release-check` uses: the objects of each rendering, and what was wrong. `None`: the checkers are not here.
async fn render(arguments: &[&str]) -> Option<(Value, String)> {
    let python = checker("python3", &["-c", "import helm_python, kubernetes_validate"]).await?;
    let mut command = Command::new(python);
    command.arg(root().join("scripts/render-kubernetes.py")).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("it was just found");
    let problems = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), problems.is_empty(), "{problems}");
    Some((serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {problems}")), problems))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(objects: &'a Value, kind: &str) -> Vec<&'a Value> {
    list(objects).iter().filter(|object| object["kind"] == kind).collect()
}

/// The pod of the one Deployment.
fn pod(objects: &Value) -> &Value {
    let deployments = of_kind(objects, "Deployment");
    assert_eq!(deployments.len(), 1, "{objects}");
    &deployments[0]["spec"]["template"]["spec"]
}

/// The relay's container in a pod, as a container of its own or as a sidecar.
fn relay(pod: &Value) -> &Value {
    let mut containers = list(&pod["containers"]).iter().chain(list(&pod["initContainers"]));
    containers.find(|container| container["name"] == "outboxd").unwrap_or_else(|| panic!("no relay in {pod}"))
}

/// Has every secret below the folder where the pods mount them, and nothing else.
struct Mounted;

impl Environment for Mounted {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        let name = path.strip_prefix("/run/secrets/outboxd").map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(match name.to_str() {
            Some("database-url") => "postgres://relay@postgres/shop\n".to_owned(),
            Some("webhook-secret") => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".to_owned(),
            _ => "sha256:037c0e39a631dcb6ca47e597254131105b62330a8674e6c34d441bdacbd350a2\n".to_owned(),
        })
    }

    fn directory(&self) -> &Path {
        Path::new("/etc/outboxd")
    }
}

/// The configuration that a rendering mounts; `None`: the chart was told to use one of somebody else's.
fn configuration(objects: &Value) -> Option<outboxd::config::Config> {
    let maps = of_kind(objects, "ConfigMap");
    let text = maps.first()?["data"]["outboxd.toml"].as_str().expect("the ConfigMap has the file");
    // A program of `exec` has to be there when the configuration is loaded.
    let text = text.replace("/programs/on-order", "true");
    Some(app::parse(&text, &Mounted).unwrap_or_else(|mistakes| panic!("{mistakes:#?}")).config)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_for_kubernetes_renders_is_valid_and_stops_in_time() {
    let Some((renderings, problems)) = render(&[]).await else { return };
    assert_eq!(problems, "");
    let renderings = renderings.as_object().expect("an object");
    let names: Vec<&str> = renderings.keys().map(String::as_str).collect();
    let expected =
        ["helm/default", "helm/everything", "helm/least", "kustomize/base", "kustomize/production", "kustomize/shop-with-sidecar"];
    assert_eq!(names, expected);
    for (name, objects) in renderings {
        let (pod, relay) = (pod(objects), relay(pod(objects)));
        let is_sidecar = relay["restartPolicy"] == "Always";
        assert_eq!(is_sidecar, name.ends_with("sidecar"), "{name}");
        is_confined(name, pod, relay, is_sidecar);
        answers_its_probes(name, relay, is_sidecar);
        let Some(config) = configuration(objects) else {
            assert_eq!(name, "helm/least");
            continue;
        };
        let listens = config.http.listen.expect("it is asked from outside");
        assert!(listens.ip().is_unspecified() && listens.port() == 9187, "{name}: {listens}");
        let feed = list(&relay["ports"]).iter().find(|port| port["name"] == "feed");
        assert_eq!(feed.map(|port| &port["containerPort"]), config.feed.listen.map(|feed| json!(feed.port())).as_ref(), "{name}");
        let application = if is_sidecar { APPLICATION_STOP } else { Duration::ZERO };
        let needed = application + config.relay.drain_timeout + STOP_MARGIN;
        assert_eq!(pod["terminationGracePeriodSeconds"], needed.as_secs(), "{name}: as long as a stop may take");
    }
    // An empty selector of a budget or a policy means every pod of the namespace.
    let selected = |object: &Value| ["selector", "podSelector"].iter().any(|key| object["spec"][key]["matchLabels"].is_object());
    for object in renderings.values().flat_map(list).filter(|object| object["spec"].is_object() && object["kind"] != "Service") {
        assert!(selected(object), "{object}");
    }
    let monitors = of_kind(&renderings["kustomize/production"], "PodMonitor");
    assert_eq!(monitors[0]["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
    assert!(of_kind(&renderings["helm/least"], "PodDisruptionBudget").is_empty());
}

/// As little as possible: no root, no rights, nothing to write to, no token, secrets as files.
fn is_confined(name: &str, pod: &Value, relay: &Value, is_sidecar: bool) {
    let security = &relay["securityContext"];
    assert_eq!(security["runAsNonRoot"], true, "{name}");
    assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
    assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{name}");
    // Of a pod that is the application's, only the container is ours to say.
    let whole = if is_sidecar { security } else { &pod["securityContext"] };
    assert_eq!((&whole["seccompProfile"]["type"], &whole["runAsUser"]), (&json!("RuntimeDefault"), &json!(65532)), "{name}");
    assert_eq!(pod["automountServiceAccountToken"] == false, !is_sidecar, "{name}");
    assert!(!relay.to_string().contains("secretKeyRef"), "{name}: a variable shows its secret to whoever lists the environment");
    let writable: Vec<&Value> = list(&relay["volumeMounts"]).iter().filter(|mount| mount["readOnly"] != true).collect();
    assert_eq!(writable.iter().map(|mount| &mount["mountPath"]).collect::<Vec<_>>(), ["/tmp"], "{name}");
    assert!(relay["resources"]["limits"]["memory"].is_string() && relay["resources"]["limits"].get("cpu").is_none(), "{name}");
}

fn answers_its_probes(name: &str, relay: &Value, is_sidecar: bool) {
    let live = &relay["livenessProbe"]["httpGet"];
    let port = list(&relay["ports"]).iter().find(|port| port["name"] == live["port"]).unwrap_or_else(|| panic!("{name}: {live}"));
    assert_eq!((&live["path"], &port["containerPort"]), (&json!("/healthz"), &json!(9187)), "{name}");
    let ready = &relay["readinessProbe"]["httpGet"];
    // A sidecar that is not ready would take the application out of its Service.
    let expected = if is_sidecar { json!(null) } else { json!({"path": "/readyz", "port": live["port"]}) };
    assert_eq!(*ready, expected, "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_and_the_kustomization_run_the_same_pod() {
    let Some((renderings, _)) = render(&[]).await else { return };
    let same = |rendering: &str| {
        let mut pod = pod(&renderings[rendering]).clone();
        for volume in pod["volumes"].as_array_mut().expect("there are volumes") {
            if let Some(name) = volume["configMap"].get_mut("name") {
                *name = json!("outboxd"); // kustomize adds a hash of the content, the chart an annotation
            }
        }
        pod
    };
    assert_eq!(same("helm/default"), same("kustomize/base"));
    let budget = |rendering: &str| of_kind(&renderings[rendering], "PodDisruptionBudget")[0]["spec"].clone();
    assert_eq!(budget("helm/default"), budget("kustomize/base"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_would_break_a_relay_are_refused_and_say_why() {
    let config = |text: &str| json!({"config": text}).to_string();
    let listens = "[http]\nlisten = \"0.0.0.0:9187\"\n";
    let cases = [
        ("{\"replica\": 3}".to_owned(), "additional properties 'replica' not allowed"),
        ("{\"replicas\": \"3\"}".to_owned(), "got string, want integer"),
        ("{\"stop\": {\"marginSeconds\": 5}}".to_owned(), "minimum: got 5, want 35"),
        (config("[log]\nformat = \"json\"\n"), "[http] listen must be \"0.0.0.0:9187\""),
        (config("[http]\nlisten = \"127.0.0.1:9187\"\n"), "[http] listen must be \"0.0.0.0:9187\""),
        (
            config(&format!("{listens}[relay]\ndrain_timeout = \"31s\"\n")),
            "relay.drain_timeout is 31s, but stop.drainSeconds is 30",
        ),
        // Valid for the chart, and not for Kubernetes: the schemas of its API see it.
        ("{\"extraEnv\": [{\"nam\": \"REGION\"}]}".to_owned(), "Deployment/outboxd: Kubernetes 1.27"),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (values, expected) in cases {
        let file = directory.path().join("values.yaml");
        std::fs::write(&file, &values).expect("the directory is ours");
        let Some((_, problems)) = render(&["--values", &file.to_string_lossy()]).await else { return };
        assert!(problems.contains(expected), "{values}: {problems}");
    }
}
