//! The address of a broker: read from a URL, checked, and displayed without its credentials.

use lapin::uri::{AMQPScheme, AMQPUri};
use url::{Host, Url};

use crate::settings::{Secret, Section, parse_address};

const EXPECTED: &str = "expected an amqp or amqps URL such as \"amqps://user:password@rabbit/shop\", \
                        what is special in it percent-encoded";
/// The query parameters that a URL may have; the rest are settings of the handler.
const PARAMETERS: &[&str] = &["heartbeat", "channel_max", "frame_max", "auth_mechanism"];
/// Seconds. A connection on which nothing was heard for twice as long is dead.
const HEARTBEAT: u16 = 20;
const LONGEST_VHOST: usize = 255;

/// Where the broker is, and who we are there.
pub struct Address {
    pub uri: AMQPUri,
    /// `host:port`, for display.
    pub target: String,
    /// What must not appear in any displayed text.
    pub hidden: Vec<Secret>,
}

impl Address {
    /// The address in the setting `url`. `None`: a mistake was reported.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        if !section.is_set("url") {
            return None; // reported when the section was opened
        }
        // The text itself is never repeated: a URL that does not parse may still hold a password.
        Self::parse(section.text("url").trim()).map_err(|problem| section.mistake("url", &problem)).ok()
    }

    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    fn parse(text: &str) -> Result<Self, String> {
        let url = parse_address(text).map_err(|problem| format!("{problem}, {EXPECTED}"))?;
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return Err(format!("got the scheme \"{}\", {EXPECTED}", url.scheme()));
        }
        let host = url.host().filter(|host| !host.to_string().is_empty()).ok_or_else(|| format!("got no host, {EXPECTED}"))?;
        if url.path() == "/" {
            return Err("got an empty virtual host; leave out the slash at the end for the one named \"/\"".to_owned());
        }
        if let Some((name, _)) = url.query_pairs().find(|(name, _)| !PARAMETERS.contains(&&**name)) {
            return Err(format!("got the parameter \"{name}\", expected one of {}", PARAMETERS.join(", ")));
        }
        let mut uri: AMQPUri = text.parse().map_err(|problem| format!("got {problem}, {EXPECTED}"))?;
        if uri.vhost.len() > LONGEST_VHOST {
            return Err(format!("got a virtual host of {} bytes, expected at most {LONGEST_VHOST}", uri.vhost.len()));
        }
        uri.authority.host = bare(&host);
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        let target = format!("{host}:{}", uri.authority.port);
        Ok(Self { hidden: hidden(&url, &uri), uri, target })
    }
}

// The parser of the crate takes every address in brackets for localhost.
fn bare(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    }
}

fn hidden(url: &Url, uri: &AMQPUri) -> Vec<Secret> {
    let given = url.password().into_iter();
    given.flat_map(|encoded| [encoded.to_owned(), uri.authority.userinfo.password.clone()]).map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_virtual_host_and_its_defaults() {
        for (text, target, vhost, user) in [
            ("amqp://rabbit", "rabbit:5672", "/", "guest"),
            ("amqps://u:p@rabbit.internal/shop", "rabbit.internal:5671", "shop", "u"),
            ("amqp://u%40x:p%2F@10.0.0.1:5673/%2f?heartbeat=5", "10.0.0.1:5673", "/", "u@x"),
            ("amqp://[::1]/a%2Fb", "[::1]:5672", "a/b", "guest"),
        ] {
            let address = Address::parse(text).expect(text);
            let uri = &address.uri;
            assert_eq!((address.target.as_str(), uri.vhost.as_str()), (target, vhost), "{text}");
            assert_eq!(uri.authority.userinfo.username, user, "{text}");
        }
        let heartbeat = |text| Address::parse(text).expect(text).uri.query.heartbeat;
        assert_eq!((heartbeat("amqp://a"), heartbeat("amqp://a?heartbeat=5")), (Some(HEARTBEAT), Some(5)));
        assert_eq!(Address::parse("amqp://[::1]").expect("valid").uri.authority.host, "::1");
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for (text, want) in [
            ("rabbit.internal", "got no URL (relative URL without a base), expected an amqp or amqps URL"),
            ("http://u:s3cr3t@rabbit", "got the scheme \"http\", expected"),
            ("amqp:///shop", "got no host, expected"),
            ("amqp://u:s3cr3t#@rabbit", "got no URL (invalid port number; in user and password write %40 for @"),
            ("amqp://u:s3cr3t@rabbit/", "got an empty virtual host; leave out the slash"),
            ("amqp://u:s3cr3t@rabbit?connection_timeout=3", "got the parameter \"connection_timeout\", expected one of heartbeat"),
            ("amqp://u:s3cr3t@rabbit?heartbeat=fast", "got invalid digit found in string, expected"),
            ("amqp://u:s3cr3t@rabbit?auth_mechanism=x", "got Invalid SASL mechanism: x, expected"),
            (&format!("amqp://rabbit/{}", "v".repeat(256)), "got a virtual host of 256 bytes, expected at most 255"),
        ] {
            let problem = Address::parse(text).map(|address| address.target).expect_err(text);
            assert!(problem.starts_with(want) && !problem.contains("s3cr3t"), "{text}: {problem}");
        }
    }

    #[test]
    fn the_password_is_hidden_as_it_is_and_as_it_is_written() {
        let address = Address::parse("amqp://u:p%40ss@rabbit").expect("valid");
        let hidden: Vec<&str> = address.hidden.iter().map(Secret::expose).collect();
        assert_eq!(hidden, ["p%40ss", "p@ss"]);
        assert!(Address::parse("amqp://rabbit").expect("valid").hidden.is_empty(), "everybody knows guest");
    }
}
