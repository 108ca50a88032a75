//! Programs of others that a test needs. Where one is not installed its test says so and passes, unless OUTBOXD_TEST_REQUIRE_ALL is set.

use std::path::PathBuf;
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
