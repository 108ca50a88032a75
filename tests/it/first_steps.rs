//! The first steps of the README, as they stand there and in their order, on a fresh database; and commands beside a file that is broken.

use tokio::process::Command;

use crate::support::{Binary, Running, TestDatabase, eventually, find_program};

/// The blocks of shell commands of the section.
fn steps() -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("it is there");
    let section = readme.split("### First steps\n").nth(1).and_then(|rest| rest.split("\n### ").next()).expect("the section");
    section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next().map(str::to_owned)).collect()
}

/// Runs a block in a shell, where `outboxd` is the built binary.
async fn shell(binary: &Binary, block: &str) -> String {
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_outboxd"));
    let path = format!("{}:{}", program.parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-e", "-c", block])
        .current_dir(binary.directory())
        .env("PATH", path)
        .env_remove("OUTBOXD_DATABASE_URL")
        .env_remove("DATABASE_URL")
        .kill_on_drop(true)
        .output()
        .await
        .expect("there is a shell");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{block}\n{text}");
    text
}

#[tokio::test]
async fn the_first_steps_of_the_readme_work_on_a_fresh_database_in_their_order() {
    let Some(_) = find_program(&["psql"], &["--version"]).await else { return };
    let database = TestDatabase::empty().await;
    let binary = Binary::with_config("");
    let blocks: Vec<String> =
        steps().iter().map(|block| block.replace("postgres://postgres@localhost/shop", database.url())).collect();
    let [prepare, run, look] = blocks.as_slice() else { panic!("three blocks: {blocks:?}") };
    let lines = prepare.lines().skip(1).take_while(|line| *line != "END").filter(|line| !line.is_empty());
    assert!(lines.count() <= 8, "the configuration stays small");

    let said = shell(&binary, prepare).await;
    assert!(said.contains("ok      database") && !said.contains("FAILED"), "{said}");
    // On a port of its own, because other relays may run on this machine.
    shell(&binary, "printf '[http]\\nlisten = \"127.0.0.1:0\"\\n' >> outboxd.toml").await;
    let arguments: Vec<&str> = run.split_whitespace().skip(1).collect();
    let relay: Running = binary.spawn(&arguments);
    relay.wait_for_output("relay started").await;
    shell(&binary, look).await;
    relay.wait_for_output("99.5").await;
    eventually("it is delivered", || async { (database.count("deliveries where state = 'delivered'").await == 1).then_some(()) })
        .await;
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));
}

// An operator at three in the morning, on a machine without the relay's secrets: what only needs Postgres has to work.
#[tokio::test]
async fn commands_that_only_need_postgres_work_beside_a_file_that_is_broken_elsewhere() {
    let database = TestDatabase::create().await;
    let good = format!("[database]\nurl = \"{}\"\n", database.url());
    let handler = "[[handlers]]\nname = \"billing\"\nkind = \"webhook\"\nurl = \"https://x.example.com\"\n";
    for (what, broken) in [
        ("a variable that is not set", format!("{good}{handler}secrets = [\"${{NO_SUCH_SECRET}}\"]\n")),
        ("a file that is not there", format!("{good}{handler}secrets_file = \"/run/secrets/nowhere\"\n")),
        ("an unknown key", format!("{good}{handler}time_out = \"5s\"\n")),
        ("no TOML", format!("{good}{handler}timeout = 5s\n")),
        ("an unknown kind", format!("{good}{handler}").replace("webhook", "telegraph")),
    ] {
        let binary = Binary::with_config(&broken);
        for command in [
            &["handlers", "list"][..],
            &["events", "list"],
            &["dead-letters", "list"],
            &["keys", "list"],
            &["alerts", "list"],
            &["replays", "list"],
        ] {
            let finished = binary.run(command).await;
            assert_eq!(finished.code, Some(0), "{what}: {command:?}: {finished:?}");
        }
        let status = binary.run(&["status"]).await;
        assert!(status.stdout.contains("no relay is running"), "{what}: {status:?}");
        let doctor = binary.run(&["doctor", "--json"]).await;
        assert!(doctor.stdout.contains("\"configuration\"") && doctor.code == Some(2), "{what}: {doctor:?}");
        assert_eq!(binary.run(&["check"]).await.code, Some(64), "{what}");
    }
    let own = Binary::with_config("[database]\nurl = \"mysql://x\"\n").run(&["handlers", "list"]).await;
    assert!(own.code == Some(64) && own.stderr.contains("database.url: got an address"), "{own:?}");
}
