//! Whether the connection to the server is encrypted, as far as this end sees it (to a pooler, where there is one). `sslmode`
//! says what is required. The default is `prefer`, which goes on without TLS where the server has none, and says nothing.

use std::net::IpAddr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Options, StoreError};

/// The protocol's question whether the server has TLS; the answer is one byte.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const PATIENCE: Duration = Duration::from_secs(5);

/// A caution about the way to the server. `None`: it is encrypted, never leaves the machine, or cannot be known.
pub async fn unencrypted(options: &Options<'_>) -> Result<Option<String>, StoreError> {
    let options: PgConnectOptions = options.url.parse().map_err(StoreError::Address)?;
    if options.get_socket().is_some() || is_local(options.get_host()) {
        return Ok(None);
    }
    let why = match options.get_ssl_mode() {
        PgSslMode::Disable => "sslmode is disable",
        PgSslMode::Allow => "sslmode is allow, which does not ask for TLS",
        PgSslMode::Prefer if has_tls(&options).await == Some(false) => "the server has no TLS, and sslmode=prefer goes on without",
        _ => return Ok(None),
    };
    let server = format!("{}:{}", options.get_host(), options.get_port());
    Ok(Some(format!(
        "the connection to {server} is not encrypted: {why}; write sslmode=verify-full and sslrootcert into database.url"
    )))
}

async fn has_tls(options: &PgConnectOptions) -> Option<bool> {
    let host = options.get_host().trim_matches(['[', ']']);
    let asked = async {
        let mut stream = TcpStream::connect((host, options.get_port())).await?;
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    Some(tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()? == b'S')
}

/// A name other than `localhost` may be this machine's; that it is, is not known here.
fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.is_empty() || host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn options(url: &str) -> Options<'_> {
        let wait = Duration::from_secs(1);
        Options {
            url,
            schema: "outbox",
            application_name: "test",
            max_connections: 1,
            connect_timeout: wait,
            statement_timeout: wait,
            lock_timeout: wait,
        }
    }

    async fn told(url: &str) -> Option<String> {
        unencrypted(&options(url)).await.expect("an address")
    }

    #[tokio::test]
    async fn a_way_without_encryption_is_told_unless_it_is_local() {
        for url in [
            "postgres://127.0.0.1/d?sslmode=disable",
            "postgres://[::1]/d?sslmode=disable",
            "postgres://localhost/d",
            "postgres:///d?host=/var/run/postgresql&sslmode=disable",
            "postgres://db.example.org/d?sslmode=require",
            "postgres://db.example.org/d?sslmode=verify-full",
        ] {
            assert_eq!(told(url).await, None, "{url}");
        }
        for (url, why) in [
            ("postgres://u:s3cret@db.example.org/d?sslmode=disable", "db.example.org:5432 is not encrypted: sslmode is disable"),
            ("postgres://u:s3cret@[2001:db8::1]:6432/d?sslmode=allow", "[2001:db8::1]:6432 is not encrypted: sslmode is allow"),
        ] {
            let told = told(url).await.expect("it is told");
            assert!(told.contains(why) && told.contains("verify-full") && !told.contains("s3cret"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_server_is_asked_whether_it_has_tls() {
        for (answer, want) in [(b'S', Some(true)), (b'N', Some(false))] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("bound");
            let serving = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("somebody connects");
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).await.expect("it asks");
                stream.write_all(&[answer]).await.expect("it reads");
                asked
            });
            let options: PgConnectOptions = format!("postgres://{address}/d").parse().expect("an address");
            assert_eq!(has_tls(&options).await, want);
            assert_eq!(serving.await.expect("no panic"), SSL_REQUEST);
        }
    }
}
