//! What is told about settings that cannot work: everything at once, and before the first event.

use std::os::unix::fs::PermissionsExt;

use super::{Place, read};

fn mistakes(settings: &str) -> Vec<String> {
    match read(settings) {
        Ok(handler) => panic!("{settings}: {handler:?}"),
        Err(mistakes) => mistakes,
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let all = mistakes(
        "command = [\"no-such-program\"]\nmode = \"worker\"\ninput = \"payload\"\nworking_directory = \"tmp\"\n\
         exec_timeout = \"28s\"\nenvironment = { \"A=B\" = \"x\", OUTBOXD_EVENT_ID = \"x\", TRACEPARENT = \"x\", PATH = \"/nowhere\" }",
    );
    assert_eq!(
        all,
        [
            "handlers.x.environment.A=B: is not the name of a variable",
            "handlers.x.environment.OUTBOXD_EVENT_ID: is set by outboxd itself and cannot be set here",
            "handlers.x.environment.TRACEPARENT: is set by outboxd itself and cannot be set here",
            "handlers.x.working_directory: got \"tmp\", expected an absolute path",
            "handlers.x.command: got \"no-such-program\", which is no program in PATH",
            "handlers.x.input: got \"payload\", but a worker needs the id of the event for its answer: mode = \"once\"",
            "handlers.x.exec_timeout: got 28s, which with kill_after (5s) is not below the handler's timeout (30s); raise timeout",
        ]
    );
}

#[test]
fn a_program_that_cannot_be_started_is_told_when_the_configuration_is_loaded() {
    let place = Place::new();
    let plain = place.path("plain");
    std::fs::write(&plain, "")
        .and_then(|()| std::fs::set_permissions(&plain, PermissionsExt::from_mode(0o644)))
        .expect("it is ours");
    let shown = plain.display();
    for (settings, want) in [
        ("command = []".to_owned(), "got no program, expected a list".to_owned()),
        ("command = [\"\"]".to_owned(), "got no program, expected a list".to_owned()),
        ("command = [\"sh\", \"a\\u0000\"]".to_owned(), "got a NUL character".to_owned()),
        (
            "command = [\"./notify\"]".to_owned(),
            "got \"./notify\", expected an absolute path, or a name that is looked up in PATH".to_owned(),
        ),
        ("command = [\"/no/such\"]".to_owned(), "the program /no/such does not exist".to_owned()),
        ("command = [\"/tmp\"]".to_owned(), "/tmp is no program but a directory or the like".to_owned()),
        (format!("command = [\"{shown}\"]"), format!("the program {shown} is not executable; chmod +x")),
        (
            format!(
                "command = [\"plain\"]\nenvironment = {{ PATH = \"relative:{}\" }}",
                plain.parent().expect("a folder").display()
            ),
            format!("the program {shown} is not executable; chmod +x"),
        ),
        (
            "command = [\"sh\"]\nenvironment = { PATH = \"/nowhere\" }".to_owned(),
            "got \"sh\", which is no program in PATH".to_owned(),
        ),
    ] {
        let mistakes = mistakes(&settings);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(&format!("handlers.x.command: {want}")), "{settings}: {mistakes:?}");
    }
}

#[test]
fn the_time_of_a_program_and_of_its_end_lies_within_the_timeout() {
    for (settings, want) in [
        (
            "kill_after = \"29s\"",
            "handlers.x.kill_after: got 29s, which leaves no time of the handler's timeout (30s); raise timeout",
        ),
        ("exec_timeout = \"0s\"", "handlers.x.exec_timeout: got no time at all"),
        ("exec_timeout = \"25s\"", "handlers.x.exec_timeout: got 25s, which with kill_after (5s) is not below"),
    ] {
        let mistakes = mistakes(&format!("command = [\"sh\"]\n{settings}"));
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(want), "{mistakes:?}");
    }
    for settings in ["", "exec_timeout = \"24s\"", "kill_after = \"28s\""] {
        assert!(read(&format!("command = [\"sh\"]\n{settings}")).is_ok(), "{settings}");
    }
}

#[test]
fn only_what_lives_on_can_be_replaced() {
    let mistakes = mistakes("command = [\"sh\"]\nrecycle_after = 10");
    assert!(mistakes.len() == 1 && mistakes[0].starts_with("handlers.x.recycle_after: is for workers"), "{mistakes:?}");
    for settings in ["recycle_after = 0", "recycle_after = \"10\""] {
        assert!(read(&format!("command = [\"sh\"]\nmode = \"worker\"\n{settings}")).is_err(), "{settings}");
    }
    assert!(read("command = [\"sh\"]\nmode = \"worker\"\nrecycle_after = 1").is_ok());
}

#[test]
fn a_value_of_the_environment_is_never_told() {
    for settings in ["environment = { X = \"hunter2\\u0000\" }", "environment = { X = 7 }"] {
        let mistakes = mistakes(&format!("command = [\"sh\"]\n{settings}"));
        assert!(mistakes.len() == 1 && !mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}
