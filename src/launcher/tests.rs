//! The launcher against real programs: what it starts answers, what it ends is gone.

use std::path::Path;
use std::process::Command;

use super::*;

fn start() -> Postgres {
    Postgres::start(Options::default().setting("fsync", "off")).expect("the tests need a Postgres server; make install-tools")
}

fn is_alive(pid: u32) -> bool {
    Command::new("kill").args(["-0", &pid.to_string()]).stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
}

fn answers(postgres: &Postgres) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", postgres.port())).is_ok()
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_directory() {
    let postgres = start();
    let (pid, directory) = (postgres.pid(), postgres.data_dir().parent().expect("data is in our directory").to_owned());
    assert!(answers(&postgres) && is_alive(pid) && directory.exists());

    drop(postgres);

    assert!(!is_alive(pid));
    assert!(!directory.exists());
}

#[test]
fn the_guard_cleans_up_after_a_process_that_was_killed() {
    let mut postgres = start();
    let directory = postgres.data_dir().parent().expect("data is in our directory").to_owned();

    postgres.guard.finish();

    assert!(!answers(&postgres));
    assert!(!directory.exists());
}

#[test]
fn a_server_comes_back_on_its_port_after_a_stop_and_after_a_kill() {
    let mut postgres = start();
    let (port, first) = (postgres.port(), postgres.pid());

    postgres.restart().expect("it starts after a stop");
    assert_ne!(postgres.pid(), first);
    postgres.kill();
    // A child that was just forked holds the listening socket until it comes round to closing it.
    let killed = std::time::Instant::now();
    while answers(&postgres) {
        assert!(killed.elapsed() < std::time::Duration::from_secs(30), "nobody listens any more");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    postgres.start_again().expect("it starts after a kill");

    assert_eq!(postgres.port(), port);
    assert!(answers(&postgres));
}

#[test]
fn the_wrong_directory_is_named_with_the_reason() {
    let options = Options { programs: Some("/does/not/exist".into()), ..Options::default() };
    let error = Postgres::start(options).expect_err("there is nothing").to_string();
    assert!(error.starts_with("could not use the Postgres programs in /does/not/exist: "), "{error}");
}

#[test]
fn a_wrong_setting_is_reported_with_the_words_of_the_server() {
    let error = Postgres::start(Options::default().setting("no_such_setting", "1")).expect_err("it cannot start").to_string();
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

#[test]
fn only_its_own_user_can_enter_the_directory() {
    use std::os::unix::fs::MetadataExt;
    let postgres = start();
    let directory = postgres.data_dir();
    let mode = |path: &Path| std::fs::metadata(path).expect("it exists").mode() & 0o777;
    assert_eq!(mode(directory.parent().expect("data is in our directory")), 0o700);
}
