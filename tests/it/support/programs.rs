//! Programs of others that some tests need. Where one is not installed its test says so and passes, unless
//! OUTBOXD_TEST_REQUIRE_ALL is set.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// The first program with which `arguments` succeed.
pub async fn find_program(programs: &[&str], arguments: &[&str]) -> Option<PathBuf> {
    for program in programs {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if status.is_ok_and(|status| status.success()) {
            return Some(PathBuf::from(program));
        }
    }
    let missing = format!("{} {} does not work here", programs.join(" or "), arguments.join(" "));
    assert!(std::env::var_os("OUTBOXD_TEST_REQUIRE_ALL").is_none(), "{missing}; make install-tools");
    eprintln!("{missing}: nothing was tested");
    None
}

/// Runs a program that was found, which must succeed, and gives what it wrote to standard output and error.
pub async fn run_program(program: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("it was just found");
    let mut stdin = child.stdin.take().expect("the input is piped");
    let writing = async {
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.ok(); // it may not want any
        drop(stdin);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), writing);
    let output = output.expect("the program runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{} {}: {text}", program.display(), arguments.join(" "));
    text
}
