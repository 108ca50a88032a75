//! What a person reads who makes mistakes in contracts, and that the example has none.

use std::path::Path;

use super::super::environment::{FakeEnvironment, ProcessEnvironment};
use super::super::{Config, fields, parse};

const KINDS: fields::Kinds = fields::Kinds { handlers: |_| None, channels: |_| None };
const HEAD: &str = "database.url = \"postgres://app@localhost/app\"\ncontracts.path = \"c\"\n";
const OPEN: &str = r#"{"type":"object"}"#;
const ID: &str = r#"{"type":"object","required":["id"],"properties":{"id":{"type":"string"}},"additionalProperties":false}"#;
const KEY: &str = r#"{"type":"object","required":["key"],"properties":{"key":{"type":"string"}},"additionalProperties":false}"#;
const TWO: &str = "[[contracts]]\ntype = \"t\"\n[[contracts.versions]]\nversion = 1\nschema = \"id.json\"\nfrom_next = [{ rename = [\"key\", \"id\"] }]\n\
                   [[contracts.versions]]\nversion = 2\nschema = \"key.json\"\nfrom_previous = [{ rename = [\"id\", \"key\"] }]\n";

fn environment(toml: &str) -> FakeEnvironment {
    let file = |environment: FakeEnvironment, name: &str, text: &str| environment.file(&format!("/etc/outboxd/c/{name}"), text);
    let environment = file(FakeEnvironment::default(), "a.toml", toml);
    let environment = file(file(environment, "open.json", OPEN), "id.json", ID);
    let environment = file(file(environment, "key.json", KEY), "broken.json", "{");
    file(environment, "remote.json", r#"{"properties":{"a":{"$ref":"https://example.org/a.json"},"b":{"pattern":"(?=a)"}}}"#)
        .file("/etc/outboxd/c/good/one.json", r#"{"id":"a"}"#)
        .file("/etc/outboxd/c/lies/one.json", r#"{"id":7}"#)
}

fn mistakes(handlers: &str, toml: &str) -> Vec<String> {
    match parse(&format!("{HEAD}{handlers}"), &environment(toml), KINDS) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

fn of_version(settings: &str) -> Vec<String> {
    mistakes("", &format!("[[contracts]]\ntype = \"t\"\n[[contracts.versions]]\nversion = 1\n{settings}"))
}

/// Casts of a second version, from a first that says nothing of its members.
fn of_cast(operation: &str) -> Vec<String> {
    let toml = format!(
        "[[contracts]]\ntype = \"t\"\n[[contracts.versions]]\nversion = 1\nschema = \"open.json\"\nfrom_next = []\n\
         [[contracts.versions]]\nversion = 2\nschema = \"open.json\"\nfrom_previous = [{operation}]"
    );
    mistakes("", &toml)
}

#[test]
fn the_example_is_valid_and_its_versions_become_one_another() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let environment = ProcessEnvironment::of_file(&folder.join("outboxd.toml"));
    let text = "database.url = \"postgres://app@localhost/app\"\ncontracts.path = \"contracts\"\n\
                [[handlers]]\nname = \"old\"\nkind = \"k\"\nevents = [\"order.*@1\"]\n[[handlers]]\nname = \"new\"\nkind = \"k\"\nevents = [\"*\", \"order.placed@2\"]";
    let config: Config = parse(text, &environment, KINDS).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let example = |name: &str| std::fs::read_to_string(folder.join("contracts").join(name)).expect("an example");
    let (one, two) = (example("order.placed.1/paid.json"), example("order.placed.2/settled.json"));
    let rendered = |handler: usize, version, payload: &str| {
        let pins = config.handlers[handler].contracts.as_ref().expect("it has a pin");
        pins.render("order.placed", Some(version), payload)
            .expect("it has a contract")
            .expect("it can be cast")
            .payload
            .into_owned()
    };
    assert!(rendered(1, 1, &one).contains(r#""total_cents":1250"#));
    assert!(rendered(0, 2, &two).contains(r#""total":"12.50""#));
    assert_eq!(rendered(0, 1, &one), one, "as recorded");
    assert_eq!(config.handlers[1].filter.types, ["*", "order.placed"], "the filter knows no versions");
}

#[test]
fn mistakes_stand_where_a_person_would_look() {
    for (settings, want) in [
        ("", "contracts.t@1: needs \"schema\", a text"),
        ("schema = \"gone.json\"", "contracts.t@1.schema: could not read /etc/outboxd/c/gone.json"),
        ("schema = \"broken.json\"", "contracts.t@1.schema: broken.json is no JSON"),
        ("schema = \"open.json\"\nshema = 1", "contracts.t@1: unknown key \"shema\"; did you mean \"schema\"?"),
        (
            "schema = \"open.json\"\nfrom_prevous = []",
            "contracts.t@1: unknown key \"from_prevous\"; did you mean \"from_previous\"?",
        ),
        ("schema = \"open.json\"\nstate = \"old\"", "contracts.t@1.state: got \"old\", expected \"draft\" or \"active\""),
        (
            "schema = \"open.json\"\ndeprecated = { since = \"1 May\" }",
            "contracts.t@1.deprecated.since: got \"1 May\", expected a day",
        ),
        (
            "schema = \"open.json\"\ndeprecated = { since = \"2026-01-01\", successor = 7 }",
            "contracts.t@1: the successor 7 is no version",
        ),
        ("schema = \"open.json\"\nexamples = \"none\"", "contracts.t@1.examples: could not read the folder /etc/outboxd/c/none"),
        ("schema = \"id.json\"\nexamples = \"good\"", ""),
        (
            "schema = \"id.json\"\nexamples = \"lies/*.json\"",
            "contracts.t@1: example one.json: is not valid under its own schema: /id: ",
        ),
        ("schema = \"open.json\"\nfrom_next = []", "contracts.t@1.from_next: there is no later version"),
    ] {
        let told = of_version(settings);
        match want {
            "" => assert_eq!(told, Vec::<String>::new(), "{settings}"),
            want => assert!(told.len() == 1 && told[0].starts_with(want), "{settings}: {told:?}"),
        }
    }
    let remote = of_version("schema = \"remote.json\"");
    assert_eq!(remote.len(), 2, "both problems of the schema are told: {remote:?}");
    assert!(remote[0].contains("\"https://example.org/a.json\" leads outside") && remote[1].contains("look-around"), "{remote:?}");
}

#[test]
fn a_cast_that_cannot_be_read_is_told_with_its_place() {
    for (operation, want) in [
        ("{ renam = [\"a\", \"b\"] }", "contracts.t@2.from_previous[0]: unknown key \"renam\"; did you mean \"rename\"?"),
        ("{}", "contracts.t@2.from_previous[0]: is empty, expected one of \"rename\""),
        ("7", "contracts.t@2.from_previous[0]: got 7, expected a table"),
        (
            "{ drop = \"a\" }, { drop = \"a\", move = [\"a\", \"b\"] }",
            "contracts.t@2.from_previous[1]: has more than one operation",
        ),
        ("{ rename = [\"a\"] }", "contracts.t@2.from_previous[0].rename: got 1 texts, expected two"),
        ("{ rename = [\"a\", \"b.c\"] }", "contracts.t@2.from_previous[0].rename: a rename names the new member without a path"),
        (
            "{ move = [\"l[].a\", \"m[].a\"] }",
            "contracts.t@2.from_previous[0].move: the paths \"l[].a\" and \"m[].a\" run through different lists",
        ),
        ("{ drop = \"a..b\" }", "contracts.t@2.from_previous[0].drop: got \"a..b\": a name is empty"),
        ("{ default = \"a\", value = 1 }", "contracts.t@2.from_previous[0].default: needs invented = true"),
        ("{ const = \"a\" }", "contracts.t@2.from_previous[0].value: is needed"),
        ("{ const = \"a\", json = \"nul\" }", "contracts.t@2.from_previous[0].json: got \"nul\", which is not JSON"),
        ("{ cast = \"a\", to = \"int\" }", "contracts.t@2.from_previous[0].to: got \"int\", expected \"text\" or \"integer\""),
        ("{ scale = \"a\", by = 0.01 }", "contracts.t@2.from_previous[0].by: got 0.01, expected a text such as \"0.01\""),
        ("{ scale = \"a\", by = \"0\" }", "contracts.t@2.from_previous[0].scale: the factor is zero"),
        ("{ map = \"a\", values = {} }", "contracts.t@2.from_previous[0].values: is empty"),
        ("{ nest = [\"a\", \"b.c\"], into = \"o\" }", "contracts.t@2.from_previous[0].nest: a nest needs members of one object"),
        ("{ cast = \"a\", to = \"text\", as = \"x\" }", "contracts.t@2.from_previous[0]: unknown key \"as\""),
    ] {
        let told = of_cast(operation);
        assert!(told.len() == 1 && told[0].starts_with(want), "{operation}: {told:?}");
    }
    let good = "{ const = \"a\", value = { b = [1, true, \"c\"] } }, { default = \"n\", json = \"null\", invented = true }, { loses = [\"x\"] }";
    assert_eq!(of_cast(good), Vec::<String>::new());
}

#[test]
fn a_cast_on_a_path_that_no_payload_has_is_told() {
    let told = mistakes("", &TWO.replace("[\"id\", \"key\"]", "[\"ID\", \"key\"]"));
    assert_eq!(told, ["contracts.t@2.from_previous[0]: rename \"ID\": a payload of version 1 has no \"ID\" here"]);
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let toml = "owner = 1\n[[contracts]]\ntype = \"a@1\"\nversions = 7\n[[contracts]]\n[[contracts.versions]]\nschema = \"gone.json\"\n\
                [[contracts]]\ntype = \"t\"\n[[contracts]]\ntype = \"t\"\n[[contracts.versions]]\nversion = 1\nschema = \"open.json\"\n\
                [[contracts.versions]]\nversion = 1\nschema = \"open.json\"";
    let told = mistakes("[relay]\nlease = 15\n", toml);
    for want in [
        "relay.lease: got 15",
        "contracts.a.toml: unknown key \"owner\"",
        "contracts.a@1.type: got \"a@1\", expected at most 255 bytes without \"@\"",
        "contracts.a@1.versions: got a integer, expected a list",
        "contracts.a.toml #2: needs \"type\"",
        "contracts.a.toml #2 #1: needs \"version\"",
        "contracts.a.toml #2 #1.schema: could not read",
        "contracts.t.versions: is not there",
        "contracts.t@1: the version is given more than once",
    ] {
        assert!(told.iter().any(|mistake| mistake.starts_with(want)), "{want}: {told:#?}");
    }
    assert_eq!(told.len(), 9, "{told:#?}");
}

#[test]
fn a_folder_that_is_none_and_a_file_that_is_no_toml_are_told() {
    let gone = parse(&HEAD.replace("\"c\"", "\"gone\""), &FakeEnvironment::default(), KINDS).expect_err("there is no folder");
    assert!(gone[0].to_string().starts_with("contracts.path: could not read the folder /etc/outboxd/gone"), "{gone:?}");
    let told = mistakes("", "[[contracts]]\ntype = ");
    assert!(told.len() == 1 && told[0].starts_with("contracts.a.toml: line 2: "), "{told:?}");
}

#[test]
fn a_pin_is_demanded_and_must_lead_somewhere() {
    let handler = |events: &str| format!("[[handlers]]\nname = \"h\"\nkind = \"k\"\nevents = {events}\n");
    for (events, want) in [
        ("[\"t\"]", "handlers.h.events: wants t, of which the versions 1 and 2 are served; pin one, for example \"t@1\""),
        ("[]", "handlers.h.events: wants t, of which the versions 1 and 2 are served"),
        ("[\"t@3\"]", "handlers.h.events: \"t@3\": there is no such version; the contract has 1 and 2"),
        ("[\"t@1\", \"t@2\"]", "handlers.h.events: pins t to the versions 1 and 2; a handler gets one version"),
        ("[\"u@1\"]", "handlers.h.events: \"u@1\" pins a version, and no contract has such a type; contracts exist for t"),
        ("[\"other\"]", ""),
        ("[\"t@1\"]", ""),
        ("[\"*\", \"t@2\"]", ""),
        ("[\"*@1\", \"t@2\"]", ""),
    ] {
        let told = mistakes(&handler(events), TWO);
        match want {
            "" => assert_eq!(told, Vec::<String>::new(), "{events}"),
            want => assert!(told.len() == 1 && told[0].starts_with(want), "{events}: {told:?}"),
        }
    }
    let draft = TWO.replace("version = 2\n", "version = 2\nstate = \"draft\"\n");
    assert_eq!(mistakes(&handler("[\"t\"]"), &draft), Vec::<String>::new(), "a draft is not served, so nothing has to be pinned");
    assert!(mistakes(&handler("[\"t@2\"]"), &draft)[0].contains("the version is draft, and is not sent"));
    let without =
        parse(&format!("database.url = \"postgres://localhost/a\"\n{}", handler("[\"t@1\"]")), &FakeEnvironment::default(), KINDS);
    assert!(without.expect_err("no contracts")[0].text.contains("there are no contracts; set contracts.path"));
}
