//! `smtp`: mail, as text and as HTML. The mails of one firing form one thread: the first mail has an id, and all later ones refer
//! to it. Never sends a password over a connection that is not encrypted.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::wording::{cut, facts, headline, label, title};
use super::{Channel, ChannelKind, SendFailure};
use crate::domain::alerts::{Notice, Notices};
use crate::settings::{Field, FieldType, Section};

pub const KIND: ChannelKind = ChannelKind {
    name: "smtp",
    summary: "send mail",
    fields: &[
        Field::required("host", FieldType::Text, "The mail server."),
        Field::new(
            "port",
            FieldType::Integer(0, 65535),
            "0",
            "Port of the server; 0: 587 with starttls, 465 with tls, 25 with none.",
        ),
        Field::new(
            "tls",
            FieldType::Choice(&["starttls", "tls", "none"]),
            "starttls",
            "Require STARTTLS, use TLS from the first byte, or do not encrypt.",
        ),
        Field::new("ca", FieldType::Text, "", "Certificates (PEM) to trust instead of those of the platform."),
        Field::new("username", FieldType::Text, "", "User name; needs password."),
        Field::new("password", FieldType::Secret, "", "The password of username."),
        Field::required("from", FieldType::Text, "The sender: \"outboxd@example.org\" or \"Orders relay <outboxd@example.org>\"."),
        Field::required("to", FieldType::TextList, "The receivers."),
    ],
    example: include_str!("../../config/examples/alerts-smtp.toml"),
    build,
};

const LONGEST_SUBJECT: usize = 200;

struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// The part of message ids after the `@`.
    domain: String,
}

fn build(section: &Section<'_>) -> Option<Arc<dyn Channel>> {
    let host = section.optional_text("host");
    if section.is_set("host") && host.is_none() {
        section.mistake("host", "is empty, expected the name of a mail server");
    }
    let mailbox = |field: &str, text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|_| section.mistake(field, &format!("got {text:?}, expected an address such as \"ops@example.org\""))).ok()
    };
    let from = section.optional_text("from").and_then(|text| mailbox("from", &text));
    let given = section.texts("to");
    if section.is_set("to") && given.is_empty() {
        section.mistake("to", "is empty, expected at least one address");
    }
    let to: Vec<Mailbox> = given.iter().filter_map(|text| mailbox("to", text)).collect();
    let credentials = read_credentials(section);
    let (host, from, credentials) = (host?, from?, credentials?);
    let tls = read_tls(section, &host)?;
    if to.is_empty() || to.len() < given.len() {
        return None;
    }
    let (port, implied) = (section.integer("port"), default_port(&tls));
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(u16::try_from(port).ok().filter(|port| *port > 0).unwrap_or(implied))
        .tls(tls)
        // The relay bounds a whole try; this one bounds a command, so that a silent server is told as that.
        .timeout(Some(std::time::Duration::from_secs(30)));
    if let Some(credentials) = credentials {
        transport = transport.credentials(credentials);
    }
    let domain = from.email.domain().to_owned();
    Some(Arc::new(Smtp { transport: transport.build(), from, to, domain }))
}

fn read_credentials(section: &Section<'_>) -> Option<Option<Credentials>> {
    match (section.optional_text("username"), section.secret("password")) {
        (None, None) => Some(None),
        (Some(_), Some(_)) if section.text("tls") == "none" => {
            section.mistake("tls", "got \"none\": a password is not sent over an unencrypted connection");
            None
        }
        (Some(user), Some(password)) => Some(Some(Credentials::new(user, password.expose().to_owned()))),
        (Some(_), None) => {
            section.mistake("password", "is missing: username needs it");
            None
        }
        (None, Some(_)) => {
            section.mistake("username", "is missing: password needs it");
            None
        }
    }
}

fn read_tls(section: &Section<'_>, host: &str) -> Option<Tls> {
    let choice = section.text("tls");
    if choice == "none" {
        return Some(Tls::None);
    }
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(ca) = section.optional_text("ca") {
        let Ok(certificate) = Certificate::from_pem(ca.as_bytes()) else {
            section.mistake("ca", "expected certificates in PEM (\"-----BEGIN CERTIFICATE-----\")");
            return None;
        };
        builder =
            builder.certificate_store(lettre::transport::smtp::client::CertificateStore::None).add_root_certificate(certificate);
    }
    let parameters = builder.build_rustls().map_err(|error| section.mistake("ca", &chain(&error))).ok()?;
    Some(if choice == "tls" { Tls::Wrapper(parameters) } else { Tls::Required(parameters) })
}

fn default_port(tls: &Tls) -> u16 {
    match tls {
        Tls::Wrapper(_) => 465,
        Tls::None => 25,
        _ => 587,
    }
}

impl Channel for Smtp {
    fn send<'a>(&'a self, notices: &'a Notices) -> BoxFuture<'a, Result<(), SendFailure>> {
        Box::pin(async move {
            let mail = self.mail(notices).map_err(|error| SendFailure::permanent(format!("could not write the mail: {error}")))?;
            match self.transport.send(mail).await {
                Ok(_) => Ok(()),
                Err(error) if error.is_permanent() => Err(SendFailure::permanent(chain(&error))),
                Err(error) => Err(SendFailure::transient(chain(&error))),
            }
        })
    }
}

impl Smtp {
    fn mail(&self, notices: &Notices) -> Result<Message, lettre::error::Error> {
        let mut mail = Message::builder()
            .from(self.from.clone())
            .subject(cut(&format!("[{}] {}", label(notices), title(notices)), LONGEST_SUBJECT).replace(['\r', '\n'], " "))
            .message_id(Some(self.message_id(&notices.id)))
            .header(AutoSubmitted);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mut threads: Vec<String> = notices.notices.iter().filter_map(|notice| notice.thread.clone()).collect();
        threads.dedup();
        if let Some(first) = threads.first() {
            mail = mail.in_reply_to(self.message_id(first));
        }
        if !threads.is_empty() {
            mail = mail.references(threads.iter().map(|thread| self.message_id(thread)).collect::<Vec<_>>().join(" "));
        }
        mail.multipart(MultiPart::alternative_plain_html(as_text(notices), as_html(notices)))
    }

    fn message_id(&self, id: &str) -> String {
        format!("<{id}@{}>", self.domain)
    }
}

fn as_text(notices: &Notices) -> String {
    let one = |notice: &Notice| {
        let lines: String = facts(notice).iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
        format!("{}\n{lines}\n", headline(&notices.relay, &notice.alert))
    };
    let mut text: String = notices.notices.iter().map(one).collect();
    if let Some(url) = &notices.external_url {
        writeln!(text, "{url}").expect("a String takes everything");
    }
    text
}

fn as_html(notices: &Notices) -> String {
    let one = |notice: &Notice| {
        let row = |(name, value): &(&str, String)| {
            let value = if *name == "run" { format!("<code>{}</code>", escape(value)) } else { escape(value) };
            format!("<tr><td>{name}</td><td>{value}</td></tr>\n")
        };
        let rows: String = facts(notice).iter().map(row).collect();
        format!("<h3>{}</h3>\n<table>\n{rows}</table>\n", escape(&headline(&notices.relay, &notice.alert)))
    };
    let alerts: String = notices.notices.iter().map(one).collect();
    let link =
        notices.external_url.as_ref().map(|url| format!("<p><a href=\"{0}\">{0}</a></p>\n", escape(url))).unwrap_or_default();
    format!("<!doctype html>\n<html><body>\n{alerts}{link}</body></html>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            write!(text, ": {next_text}").expect("a String takes everything");
        }
        cause = next.source();
    }
    cut(&text.replace(['\r', '\n'], " "), 300)
}

/// Tells other machines not to answer.
#[derive(Debug, Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
