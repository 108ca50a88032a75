//! The container image, as far as it can be tried without an engine: the manifest builds from exactly what `.dockerignore` lets through, and the
//! Dockerfile says what the build needs. Seen: an image that could not be built, because a document was left out that the source includes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Binary, NewRow, Receiver, TestDatabase, find_program};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The names at the root that the context has: `*` first, then what comes back.
fn let_through() -> Vec<String> {
    let text = read(".dockerignore");
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "the test reads a list of what comes back");
    lines
        .map(|line| line.strip_prefix('!').unwrap_or_else(|| panic!("{line}: the test reads whole names only")).to_owned())
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the folder is ours");
        for entry in fs::read_dir(from).expect("a folder can be listed") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Where this very test was built: a build there finds every dependency compiled.
fn target_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    test.ancestors().nth(3).expect("target/debug/deps/test").to_owned()
}

#[test]
fn the_binary_builds_from_what_the_context_has() {
    let context = tempfile::tempdir().expect("a temporary directory");
    for name in let_through() {
        copy(&root().join(&name), &context.path().join(&name));
    }
    let built = Command::new(env!("CARGO"))
        .args(["check", "--locked", "--offline", "--quiet", "--bin", "outboxd"])
        .current_dir(context.path())
        .env("CARGO_TARGET_DIR", target_directory())
        .output()
        .expect("cargo starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// Each instruction on one line.
fn instructions() -> Vec<String> {
    let text: String =
        read("Dockerfile").lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect();
    text.replace("\\\n", " ")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn every_base_is_pinned() {
    let is_exact = |tag: &str| tag.split('-').next().is_some_and(|version| version.split('.').count() == 3);
    for base in instructions().iter().filter_map(|line| line.strip_prefix("FROM ")) {
        // The build stage runs on the architecture of the machine that builds.
        let name = base.split(' ').find(|word| !word.starts_with("--")).expect("a name");
        let is_pinned =
            name == "scratch" || name.contains("@sha256:") || name.rsplit_once(':').is_some_and(|(_, tag)| is_exact(tag));
        assert!(is_pinned, "{base}");
    }
}

#[test]
fn the_build_stage_has_what_the_dependencies_need() {
    let instructions = instructions();
    let installs = instructions.iter().find(|line| line.contains("apt-get install")).expect("something is installed");
    for package in ["gcc", "g++", "libc6-dev", "make", "perl", "ca-certificates"] {
        assert!(installs.split(' ').any(|word| word == package), "{package}: {installs}");
    }
    let labels = instructions.iter().find(|line| line.starts_with("LABEL ")).expect("there are labels");
    for label in ["title", "description", "version", "revision", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{label}=")), "{label}: {labels}");
    }
    assert!(instructions.iter().any(|line| line == "USER 65532:65532"), "it does not run as root");
    assert!(
        instructions.iter().any(|line| line.contains("scripts/image-build.sh")),
        "the tests below make the root as the image does"
    );
}

/// The root of the image, made by the script of the Dockerfile, with a configuration.
fn image_root(place: &Path, config: &str) -> PathBuf {
    let root_of_image = place.join("root");
    let script = root().join("scripts/image-root.sh");
    let made = Command::new("sh").arg(script).arg(env!("CARGO_BIN_EXE_outboxd")).arg(&root_of_image).output().expect("sh starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(root_of_image.join("etc/outboxd/outboxd.toml"), config).expect("the directory is ours");
    root_of_image
}

/// The relay in a root that has what the image has and nothing else, as the user of the image: it starts, finds its libraries, certificates
/// and time zones, and delivers.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_relay_delivers_from_a_root_that_has_only_what_the_image_has() {
    if find_program(&["chroot"], &["/", "true"]).await.is_none() || find_program(&["readelf"], &["--version"]).await.is_none() {
        return;
    }
    let (database, receiver) = (TestDatabase::create().await, Receiver::start().await);
    let config = format!(
        "[database]\nurl = \"{}\"\n[http]\nlisten = \"\"\n[[handlers]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"{}\"\n\
         secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
        database.url(),
        receiver.url(),
    );
    let place = tempfile::tempdir().expect("a temporary directory");
    let root_of_image = image_root(place.path(), &config);
    let mut command = tokio::process::Command::new("chroot");
    command.arg("--userspec=65532:65532").arg(&root_of_image).args(["/usr/local/bin/outboxd", "run"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("OUTBOXD_CONFIG", "/etc/outboxd/outboxd.toml");
    let mut relay = command.kill_on_drop(true).stdin(std::process::Stdio::null()).spawn().expect("chroot was just found");
    let id = database.insert_event(NewRow::new("order.placed").of("order", 1)).await;
    assert_eq!(receiver.wait_for(1).await[0].id, id.to_string());
    // SAFETY: takes two numbers; the process is our child and not yet waited for.
    unsafe { libc::kill(relay.id().expect("it runs") as libc::pid_t, libc::SIGTERM) };
    assert!(relay.wait().await.expect("the process is our child").success());
}

/// The command of the health check, run as the image would: beside a relay whose address only the configuration knows.
#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_asks_for_life_where_the_relay_listens() {
    let check = instructions().into_iter().find(|line| line.starts_with("HEALTHCHECK ")).expect("there is one");
    let command: Vec<String> = serde_json::from_str(&check[check.find("CMD ").expect("a command") + 4..]).expect("a list");
    let arguments: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
    let handlers = "[[handlers]]\nname = \"a\"\nkind = \"discard\"";
    // A port of our own choosing: the configuration has to name it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    // Nobody listens there: the relay is alive, and not ready.
    let config = format!("[database]\nurl = \"postgres://127.0.0.1:1/none\"\n[http]\nlisten = \"0.0.0.0:{port}\"\n{handlers}");
    let binary = Binary::with_config(&config);
    let dead = binary.run(&arguments).await;
    assert_eq!(dead.code, Some(1), "{dead:?}");
    let relay = binary.spawn(&["run"]);
    relay.wait_for_output("serving /metrics").await;
    let alive = binary.run(&arguments).await;
    assert_eq!((alive.code, alive.stdout.as_str()), (Some(0), "alive\n"), "{alive:?}");
    assert_eq!(binary.run(&["health"]).await.code, Some(1), "readiness is another question");
    relay.terminate();

    let database = TestDatabase::create().await;
    let silent = Binary::relay(database.url(), handlers);
    assert_eq!(silent.run(&arguments).await.code, Some(0), "a relay without HTTP cannot be asked, and is not restarted for it");
}
