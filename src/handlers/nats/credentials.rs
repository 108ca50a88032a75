//! Credentials: the one way in which a user authenticates. Their form is checked when the configuration is loaded, so that a seed
//! that was pasted in part is reported at once and not by a server.

use async_nats::ConnectOptions;

use crate::settings::{Secret, Section};

/// The settings of each way; more than one way is a mistake.
const WAYS: &[&str] = &["username", "token", "nkey", "credentials"];
const SECRETS: &[&str] = &["password", "token", "nkey", "credentials"];

/// Options of a connection with the credentials in them. `None`: a mistake was reported.
pub fn read(section: &Section<'_>) -> Option<ConnectOptions> {
    let ways: Vec<&str> = WAYS.iter().copied().filter(|way| section.optional_text(way).is_some()).collect();
    if let [first, second, ..] = ways.as_slice() {
        section.mistake(second, &format!("is given beside {first}, expected one way to identify the user"));
        return None;
    }
    let options = ConnectOptions::new();
    let text = |field: &str| section.secret(field).map(|secret| secret.expose().trim().to_owned()).unwrap_or_default();
    match (ways.first().copied(), section.secret("password")) {
        (Some("username"), Some(password)) => {
            Some(options.user_and_password(section.text("username"), password.expose().to_owned()))
        }
        (Some("username"), None) => refuse(section, "password", "is missing: username needs it"),
        (_, Some(_)) => refuse(section, "username", "is missing: password needs it"),
        (Some("token"), None) => Some(options.token(text("token"))),
        (Some("nkey"), None) if is_seed(&text("nkey")) => Some(options.nkey(text("nkey"))),
        (Some("nkey"), None) => {
            refuse(section, "nkey", "got no seed of a user's NKey, expected \"SU\" and 56 more letters and digits")
        }
        // The client takes the last line for one only with its end, which those who read files like to take off.
        (Some(_), None) => options.credentials(&format!("{}\n", text("credentials"))).ok().or_else(|| {
            refuse(section, "credentials", "got no credentials, expected the text of a .creds file with a JWT and a seed")
        }),
        (None, None) => Some(options),
    }
}

/// What must not appear in any displayed text; of a credentials file each line for itself.
pub fn hidden(section: &Section<'_>) -> Vec<Secret> {
    let texts = SECRETS.iter().filter_map(|field| section.secret(field));
    let lines = texts.flat_map(|secret| secret.expose().lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| !line.contains("---")).map(Secret::new).collect()
}

fn refuse(section: &Section<'_>, field: &str, text: &str) -> Option<ConnectOptions> {
    section.mistake(field, text);
    None
}

// The client reads a seed only when it connects, and then says no more than that it could not. As part of a credentials file it
// reads it at once.
fn is_seed(seed: &str) -> bool {
    let file = format!(
        "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    seed.starts_with("SU") && ConnectOptions::with_credentials(&file).is_ok()
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::super::settings::FIELDS;
    use super::*;
    use crate::settings::Mistakes;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

    fn mistakes(settings: &str) -> Vec<String> {
        let text = format!("servers = [\"nats://x\"]\nsubject = \"x\"\n{settings}");
        let (table, mistakes) = (text.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let options = read(&Section::open("h", &table, FIELDS, &[], &mistakes));
        let mistakes: Vec<String> = mistakes.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(options.is_none(), !mistakes.is_empty(), "{mistakes:?}");
        mistakes
    }

    fn credentials_file(seed: &str) -> String {
        format!(
            "'''-----BEGIN NATS USER JWT-----\neyJ0.eyJq.x\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------'''"
        )
    }

    #[test]
    fn one_way_to_identify_a_user_is_enough_and_two_are_a_mistake() {
        for settings in [
            "",
            "username = \"u\"\npassword = \"p\"",
            "token = \"t\"",
            &format!("nkey = \"{SEED}\""),
            &format!("credentials = {}", credentials_file(SEED)),
        ] {
            assert_eq!(mistakes(settings), Vec::<String>::new(), "{settings}");
        }
        for (settings, want) in [
            ("username = \"u\"", "h.password: is missing: username needs it"),
            ("password = \"p\"", "h.username: is missing: password needs it"),
            ("username = \"u\"\npassword = \"p\"\ntoken = \"t\"", "h.token: is given beside username"),
            ("nkey = \"SUAIO3\"", "h.nkey: got no seed of a user's NKey"),
            ("nkey = \"UAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFL\"", "h.nkey: got no seed of a user's NKey"),
            ("credentials = \"/etc/nats.creds\"", "h.credentials: got no credentials, expected the text of a .creds file"),
            (&format!("credentials = {}", credentials_file("SUAIO")), "h.credentials: got no credentials"),
        ] {
            let mistakes = mistakes(settings);
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(want), "{settings}: {mistakes:?}");
        }
    }

    #[test]
    fn every_line_of_a_credentials_file_is_hidden() {
        let text = format!("servers = [\"nats://x\"]\nsubject = \"x\"\ncredentials = {}", credentials_file(SEED));
        let (table, mistakes) = (text.parse::<Table>().expect("valid TOML"), Mistakes::default());
        let hidden = hidden(&Section::open("h", &table, FIELDS, &[], &mistakes));
        for secret in [SEED, "eyJ0.eyJq.x"] {
            assert!(hidden.iter().any(|line| line.expose() == secret), "{secret}");
        }
    }
}
