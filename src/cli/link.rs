//! `--link`: the address of the page of the console that shows the same, to send to a colleague. Reads the configuration only.

use uuid::Uuid;

use super::print::print;
use super::{CliError, EXIT_CONFIG, Global};
use crate::config::{Console, ConsoleAddress};
use crate::console::{part, with_query};
use crate::operations::{Moment, Which};
use crate::settings::describe_duration;

#[derive(Debug, thiserror::Error)]
#[error("the configuration serves no console, so there is no link; set console.listen, for example to \"127.0.0.1:9189\"")]
struct NoConsole;

/// Prints the address of a page; `path` is below the front page, and parameters without a value are left out.
pub(super) fn print_link(global: &Global, path: &str, query: &[(&str, &str)]) -> Result<(), CliError> {
    let console = global.load()?.config.console;
    let front = front_page(&console).ok_or_else(|| CliError::new(EXIT_CONFIG, NoConsole))?;
    print(&format!("{front}{}\n", with_query(path, query)))
}

/// The address of the front page as a browser reaches it: by the first name of `console.hosts` if there is one; behind a proxy by HTTPS.
fn front_page(console: &Console) -> Option<String> {
    let Console { listen, path, hosts, proxy, .. } = console;
    let listen = listen.as_ref()?;
    let host = hosts.first();
    let (scheme, authority) = match (listen, host) {
        (_, Some(host)) if proxy.tells_users() => ("https", host.clone()),
        (ConsoleAddress::Tcp(address), Some(host)) => ("http", format!("{host}:{}", address.port())),
        (ConsoleAddress::Tcp(address), None) if address.ip().is_unspecified() => ("http", format!("localhost:{}", address.port())),
        (ConsoleAddress::Tcp(address), None) => ("http", address.to_string()),
        (ConsoleAddress::Unix(_), host) => ("https", host.cloned().unwrap_or_else(|| "localhost".to_owned())),
    };
    Some(format!("{scheme}://{authority}{path}/"))
}

/// The page of an event, or of its delivery to one handler.
pub(super) fn letter_path(event: Uuid, handler: Option<&str>) -> String {
    match handler {
        Some(handler) => format!("e/{event}/{}", part(handler)),
        None => format!("e/{event}"),
    }
}

/// A filter as the pages write it.
pub(super) fn print_link_of(global: &Global, path: &str, which: &Which) -> Result<(), CliError> {
    let moment = |moment: Option<Moment>| match moment {
        Some(Moment::At(at)) => at.to_string(),
        Some(Moment::Ago(span)) => describe_duration(span),
        None => String::new(),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let parts = [
        ("handler", text(&which.handler)),
        ("type", text(&which.event_type)),
        ("key", text(&which.key)),
        ("reason", text(&which.reason)),
        ("text", text(&which.text)),
        ("since", moment(which.since)),
        ("until", moment(which.until)),
        ("group", which.group.map(|group| group.to_string()).unwrap_or_default()),
    ];
    let query: Vec<(&str, &str)> = parts.iter().map(|(name, value)| (*name, value.as_str())).collect();
    print_link(global, path, &query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConsoleProxy, TrustedPeer};

    #[test]
    fn the_front_page_is_where_a_browser_reaches_it() {
        let off = || Console {
            listen: None,
            path: String::new(),
            hosts: vec![],
            redact: vec![],
            tokens: vec![],
            proxy: ConsoleProxy::default(),
        };
        let at = |listen: &str, hosts: &[&str], path: &str, is_behind_proxy: bool| {
            let mut console = Console {
                listen: Some(ConsoleAddress::parse(listen).expect("an address")),
                hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
                path: path.to_owned(),
                ..off()
            };
            if is_behind_proxy {
                console.proxy.trusted = vec![TrustedPeer::Unix];
                console.proxy.user_header = Some("x-user".to_owned());
            }
            front_page(&console).expect("it is served")
        };
        assert_eq!(at("127.0.0.1:9189", &[], "", false), "http://127.0.0.1:9189/");
        assert_eq!(at("0.0.0.0:9189", &[], "", false), "http://localhost:9189/");
        assert_eq!(at("0.0.0.0:9189", &["outboxd.internal"], "", false), "http://outboxd.internal:9189/");
        assert_eq!(at("127.0.0.1:9189", &["ops.example.org"], "/outboxd", true), "https://ops.example.org/outboxd/");
        assert_eq!(at("unix:/run/console.sock", &["ops.example.org"], "", true), "https://ops.example.org/");
        assert!(front_page(&off()).is_none());
    }
}
