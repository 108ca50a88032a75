//! A real mail server (aiosmtpd), with STARTTLS and a password: what arrives is a thread that a person can follow.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{QUICK, Scene};
use crate::support::{eventually, find_program};

/// Writes every mail that it takes into a file of its own, in order.
const SERVER: &str = r#"
import pathlib, socket, ssl, sys, threading
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

directory = pathlib.Path(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory / "cert.pem", directory / "key.pem")

class Handler:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        if (directory / "refuse").exists():
            return "451 come back later"
        Handler.count += 1
        part = directory / "part"
        part.write_bytes(b"X-Encrypted: %s\r\nX-To: %s\r\n" % (str(bool(session.ssl)).encode(), ",".join(envelope.rcpt_tos).encode())
                         + envelope.content)
        part.rename(directory / f"mail-{Handler.count}")
        return "250 taken"

def authenticate(server, session, envelope, mechanism, data):
    # Not handled: the server itself says 535.
    return AuthResult(success=(data.login, data.password) == (b"outboxd", b"hunter2"), handled=False)

controller = Controller(Handler(), hostname="127.0.0.1", port=0, tls_context=context, require_starttls=True,
                        authenticator=authenticate, auth_required=True)
def knock():
    # The controller itself would knock at port 0.
    with socket.create_connection(controller.server.sockets[0].getsockname()) as connection:
        connection.recv(100)

controller._trigger_server = knock
controller.start()
print(controller.server.sockets[0].getsockname()[1], flush=True)
threading.Event().wait()
"#;

/// The server; killed when it is dropped.
struct MailServer {
    port: u16,
    certificate: String,
    directory: TempDir,
    _process: Child,
}

impl MailServer {
    /// `None`: it is not installed, and that was said.
    async fn start() -> Option<Self> {
        let python = find_program(&["python3", "/usr/bin/python3"], &["-c", "import aiosmtpd"]).await?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("the directory is ours");
        write("cert.pem", &made.cert.pem());
        write("key.pem", &made.signing_key.serialize_pem());
        let mut process = Command::new(python)
            .arg("-c")
            .arg(SERVER)
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it was just found");
        let mut line = String::new();
        let output = process.stdout.take().expect("the output is piped");
        BufReader::new(output).read_line(&mut line).await.expect("the server says its port");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the mail server did not start: {line:?}"));
        Some(Self { port, certificate: made.cert.pem(), directory, _process: process })
    }

    fn channel(&self, password: &str) -> String {
        let Self { port, certificate, .. } = self;
        format!(
            "[[alerts.channels]]\nname = \"mail\"\nkind = \"smtp\"\nhost = \"localhost\"\nport = {port}\nca = \"\"\"{certificate}\"\"\"\n\
             username = \"outboxd\"\npassword = \"{password}\"\nfrom = \"Orders relay <outboxd@example.org>\"\n\
             to = [\"ops@example.org\", \"ann@example.org\"]\n"
        )
    }

    /// Waits for the mail with this number and gives it, its folded headers unfolded.
    async fn mail(&self, number: usize) -> Mail {
        let path = self.directory.path().join(format!("mail-{number}"));
        let text = eventually(&format!("mail {number} arrives"), || async { std::fs::read_to_string(&path).ok() }).await;
        Mail(text.replace("\r\n", "\n").replace("\n ", " ").replace("=\n", ""))
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

struct Mail(String);

impl Mail {
    fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.0.split_once("\n\n")?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_of_one_alert_are_one_thread() {
    let Some(server) = MailServer::start().await else { return };
    let scene = Scene::new(&["billing"], &format!("{QUICK}repeat_interval = \"1s\"\n{}", server.channel("hunter2"))).await;
    let _relay = scene.start().await;
    let event = scene.fail("billing").await;

    let (first, again) = (server.mail(1).await, server.mail(2).await);
    assert_eq!(first.header("Subject"), Some("[FIRING:critical] outboxd/billing: 1 dead letter"));
    assert_eq!(first.header("From"), Some("\"Orders relay\" <outboxd@example.org>"));
    assert_eq!((first.header("X-Encrypted"), first.header("X-To")), (Some("True"), Some("ops@example.org,ann@example.org")));
    assert_eq!(first.header("Auto-Submitted"), Some("auto-generated"));
    assert!(first.0.contains("text/plain") && first.0.contains("text/html") && first.0.contains(&event), "{}", first.0);
    assert!(first.0.contains("run: outboxd dead-letters list --handler billing"), "{}", first.0);
    let id = first.header("Message-ID").expect("a mail has an id");
    assert!(id.ends_with("@example.org>") && first.header("In-Reply-To").is_none(), "{id}");
    assert_eq!((again.header("In-Reply-To"), again.header("References")), (Some(id), Some(id)));
    assert_ne!(again.header("Message-ID"), Some(id));

    scene.discard().await;
    let mut number = 3;
    let over = loop {
        let mail = server.mail(number).await;
        if mail.header("Subject").is_some_and(|subject| subject.starts_with("[RESOLVED]")) {
            break mail;
        }
        number += 1;
    };
    assert_eq!(over.header("In-Reply-To"), Some(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_put_off_is_sent_again_and_a_wrong_password_is_told_without_it() {
    let Some(server) = MailServer::start().await else { return };
    std::fs::write(server.path().join("refuse"), "").expect("the directory is ours");
    let scene = Scene::new(&["billing"], &format!("{QUICK}{}", server.channel("hunter2"))).await;
    let relay = scene.start().await;
    scene.fail("billing").await;
    let line = relay.wait_for_output("could not send alerts").await;
    assert!(line.contains("451") && line.contains("come back later"), "{line}");
    std::fs::remove_file(server.path().join("refuse")).expect("it is there");
    assert!(server.mail(1).await.header("Subject").is_some());
    relay.terminate();
    assert_eq!(relay.finish().await.code, Some(0));

    let wrong = Scene::new(&["billing"], &server.channel("wrong-password")).await;
    let failed = wrong.binary.run(&["alerts", "test", "mail"]).await;
    assert!(failed.code == Some(1) && failed.stderr.contains("535") && !failed.stderr.contains("wrong-password"), "{failed:?}");
    let right = scene.binary.run(&["alerts", "test", "mail"]).await;
    assert_eq!(right.code, Some(0), "{right:?}");
    assert!(server.mail(2).await.header("Subject").is_some_and(|subject| subject.contains("this-is-a-test")));
}
