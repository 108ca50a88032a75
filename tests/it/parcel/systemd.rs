//! The systemd unit: read by systemd itself, and compared with what the daemon does.

use outboxd::app::STOP_MARGIN;
use tokio::process::Command;

use super::{read, root};
use crate::support::{Binary, TestDatabase, find_program};

/// The values of a setting, in their order.
fn settings(name: &str) -> Vec<String> {
    let unit = read("deploy/systemd/outboxd.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_understands_the_unit_and_its_drop_ins() {
    if find_program(&["systemd-analyze"], &["--version"]).await.is_none() {
        return;
    }
    let output = Command::new("sh").arg(root().join("scripts/check-unit.sh")).output().await.expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_fits_the_daemon() {
    let default = outboxd::app::parse(
        "[database]\nurl = \"postgres://localhost/shop\"\n[[handlers]]\nname = \"a\"\nkind = \"discard\"\n",
        &outboxd::config::ProcessEnvironment::of_file(root()),
    );
    let drain_timeout = default.unwrap_or_else(|mistakes| panic!("{mistakes:?}")).config.relay.drain_timeout;
    assert_eq!(settings("TimeoutStopSec"), [format!("{}s", (drain_timeout + STOP_MARGIN).as_secs())]);
    assert_eq!(settings("Type"), ["notify"]);
    // With the default, systemd would send SIGTERM to the programs of `exec` handlers as well, in the middle of their work.
    assert_eq!(settings("KillMode"), ["mixed"]);
    assert_eq!(settings("RestartPreventExitStatus"), ["64"], "a wrong configuration does not become right by a restart");
}

/// The address of a secret that credentials.conf tells people to write, for the service and for a command in a shell.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_systemd_is_read_from_where_systemd_puts_it() {
    let database = TestDatabase::create().await;
    let drop_in = read("deploy/systemd/credentials.conf");
    let line = drop_in.lines().find_map(|line| line.strip_prefix("#   url_file")).expect("the drop-in shows the setting");
    let binary = Binary::with_config(&format!(
        "[database]\nurl_file{}\n[[handlers]]\nname = \"a\"\nkind = \"discard\"\n",
        line.replace("/etc/outboxd/secrets", "secrets")
    ));
    for folder in ["credentials", "secrets"] {
        std::fs::create_dir(binary.directory().join(folder)).expect("the directory is ours");
    }
    std::fs::write(binary.directory().join("credentials/database-url"), format!("{}\n", database.url()))
        .expect("the directory is ours");
    let service = binary.clone().env("CREDENTIALS_DIRECTORY", &binary.directory().join("credentials").to_string_lossy());
    let checked = service.run(&["check", "--connect"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");

    let missing = binary.run(&["check"]).await;
    assert_eq!(missing.code, Some(64), "{missing:?}");
    assert!(missing.stderr.contains("secrets/database-url"), "{missing:?}");
    std::fs::rename(binary.directory().join("credentials/database-url"), binary.directory().join("secrets/database-url"))
        .expect("the directory is ours");
    let shell = binary.run(&["check", "--connect"]).await;
    assert_eq!(shell.code, Some(0), "{shell:?}");
}
