//! Hints for a wrong address, or for one that leads elsewhere than it reads: several hosts, an IPv6 address without brackets,
//! characters that separate the parts of a URL. Never repeats any part of the address, which may hold a password.

use url::Url;

/// Reads a URL that leads to one server. The problem says what to write, and never repeats the text.
pub fn parse_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| match address_hint(text) {
        Some(hint) => format!("got no URL ({error}; {hint})"),
        None => format!("got no URL ({error})"),
    })?;
    match address_hint(text) {
        Some(ONE_HOST) => Err(format!("got several hosts ({ONE_HOST})")),
        _ => Ok(url),
    }
}

/// The words to add to a mistake about this address. `None`: nothing of the kind is in it.
pub fn address_hint(text: &str) -> Option<&'static str> {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = after_scheme.find(['/', '?', '#']).unwrap_or(after_scheme.len());
    let (authority, rest) = after_scheme.split_at(end);
    let (credentials, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(credentials, hosts)| (Some(credentials), hosts));
    // An "@" behind the host belongs to credentials that a "/", "?" or "#" in them has cut; in a path or query of its own it is encoded.
    let has_no_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_err());
    let is_cut = credentials.is_none() && rest.contains('@') && has_no_port;
    if is_cut || credentials.is_some_and(|credentials| credentials.contains(['@', '[', ']', ' ', '%']) && !is_encoded(credentials))
    {
        return Some(ENCODE);
    }
    if hosts.contains(',') || parameter(rest, "host").is_some_and(|hosts| hosts.contains(',')) {
        return Some(ONE_HOST);
    }
    if !hosts.starts_with('[') && hosts.matches(':').count() > 1 {
        return Some(BRACKETS);
    }
    None
}

const ENCODE: &str =
    "in user and password write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for % and %20 for a space";
const ONE_HOST: &str = "write one host: a name or an address that leads to the server that takes the events, also after a failover";
const BRACKETS: &str = "write an IPv6 address in brackets, such as [2001:db8::1]:443";

/// Whether each `%` begins an encoded byte, and nothing is left that would have to be encoded.
fn is_encoded(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_byte = |place: usize| bytes.get(place + 1..place + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    !text.contains(['@', '[', ']', ' ']) && bytes.iter().enumerate().all(|(place, byte)| *byte != b'%' || is_byte(place))
}

fn parameter<'t>(rest: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = rest.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_told() {
        for (text, want) in [
            ("postgres://u:p@a:5432,b:5432/d", ONE_HOST),
            ("postgres://u:p@a,b/d", ONE_HOST),
            ("postgres:///d?host=a,b", ONE_HOST),
            ("amqp://u:p@a,b/v", ONE_HOST),
            ("a:9092,b:9092", ONE_HOST),
            ("postgres://u:p@::1:5432/d", BRACKETS),
            ("redis://2001:db8::1", BRACKETS),
            ("fe80::1:9187", BRACKETS),
            ("postgres://u:p#ss@h/d", ENCODE),
            ("postgres://u:p/ss@h/d", ENCODE),
            ("postgres://u:p?ss@h/d", ENCODE),
            ("postgres://u:p@ss@h/d", ENCODE),
            ("postgres://u:100%@h/d", ENCODE),
            ("amqp://u:p ss@h/v", ENCODE),
        ] {
            assert_eq!(address_hint(text), Some(want), "{text}");
        }
    }

    #[test]
    fn a_url_of_several_hosts_is_refused_and_one_that_can_be_read_is_taken() {
        let problem = parse_address("amqp://u:s3cret@a,b/v").expect_err("two hosts");
        assert!(problem.starts_with("got several hosts (write one host") && !problem.contains("s3cret"), "{problem}");
        let problem = parse_address("redis://u:s3cret@::1:6379").expect_err("no brackets");
        assert!(problem.contains("in brackets") && !problem.contains("s3cret"), "{problem}");
        // The parser takes the last "@" for the end of the credentials, as operators mean it.
        assert_eq!(parse_address("redis://u:p@ss@h").map(|url| url.password().map(str::to_owned)), Ok(Some("p%40ss".to_owned())));
    }

    #[test]
    fn an_address_that_is_well_formed_needs_no_hint() {
        for text in [
            "postgres://u:p%40ss%23%2F@h:5432/d?sslmode=require",
            "postgres://[::1]:5432/d",
            "postgres:///d?host=/var/run/postgresql",
            "https://h/x?mail=a@b,c",
            "https://h:8443/@user",
            "mqtts://broker.example.org:8883",
            "[::1]:9187",
            "h",
            "",
        ] {
            assert_eq!(address_hint(text), None, "{text}");
        }
    }
}
