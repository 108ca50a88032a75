//! Receivers that hang, flood, break off or talk nonsense: none may hold a worker, and none may make a success of a failure.

use std::future::pending;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

async fn say(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.ok();
}

async fn deliver_to(address: std::net::SocketAddr) -> Verdict {
    deliver_within("20s", address).await
}

async fn deliver_within(timeout: &str, address: std::net::SocketAddr) -> Verdict {
    webhook(&format!("url = \"http://{address}/\"\nrequest_timeout = \"{timeout}\"")).deliver(&sample()).await
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_in_time() {
    let address = raw(|stream| async move {
        let _open = stream;
        pending::<()>().await;
    })
    .await;
    let started = Instant::now();
    let verdict = deliver_within("200ms", address).await;
    assert_eq!(verdict, Verdict::retry(Reason::Timeout, format!("no answer from {address} within 200ms")).ambiguous());
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_success_that_hangs_in_its_body_is_no_success() {
    let address = raw(|mut stream| async move {
        say(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbeginning").await;
        pending::<()>().await;
    })
    .await;
    let verdict = deliver_within("1s", address).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, Reason::Timeout, true));
    assert_eq!(verdict.status, Some(200));
}

#[tokio::test]
async fn an_error_that_hangs_in_its_body_counts_by_its_status() {
    let address = raw(|mut stream| async move {
        say(&mut stream, b"HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\nthe total is missing").await;
        pending::<()>().await;
    })
    .await;
    let verdict = deliver_within("1s", address).await;
    assert_eq!(verdict, Verdict::permanent(Reason::ClientError, "the total is missing").with_status(422));
}

#[tokio::test]
async fn a_receiver_that_drips_cannot_stretch_the_timeout() {
    let address = raw(|mut stream| async move {
        say(&mut stream, b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-drip: 1\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let started = Instant::now();
    let verdict = deliver_within("200ms", address).await;
    assert_eq!((verdict.reason, verdict.ambiguous), (Reason::Timeout, true));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_bound_and_counts_by_its_status() {
    async fn flood(mut stream: TcpStream, status: &str) {
        say(&mut stream, format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes()).await;
        let chunk = format!("1000\r\n{}\r\n", "y".repeat(0x1000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    }
    let accepted = deliver_to(raw(|stream| flood(stream, "200 OK")).await).await;
    assert_eq!(accepted, Verdict::delivered().with_status(200));
    let failed = deliver_to(raw(|stream| flood(stream, "500 Oops")).await).await;
    assert_eq!((failed.reason, failed.detail.len()), (Reason::ServerError, 8192));
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_ambiguous() {
    let closed = raw(|stream| async move { drop(stream) }).await;
    #[expect(deprecated, reason = "a linger of zero, which never blocks, is how a socket sends a reset")]
    let reset = raw(|stream| async move { stream.set_linger(Some(Duration::ZERO)).expect("a socket") }).await;
    for address in [closed, reset] {
        let verdict = deliver_to(address).await;
        assert_eq!(
            (verdict.outcome, verdict.reason, verdict.ambiguous),
            (Outcome::Retry, Reason::ConnectionReset, true),
            "{verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_success_that_breaks_off_is_no_success() {
    let address =
        raw(|mut stream| async move { say(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await }).await;
    let verdict = deliver_to(address).await;
    assert_eq!(
        (verdict.outcome, verdict.reason, verdict.ambiguous),
        (Outcome::Retry, Reason::ConnectionReset, true),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn nonsense_is_an_invalid_answer() {
    for nonsense in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "HTTP/1.1 abc\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a chunk\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000)),
    ] {
        let said = Arc::new(nonsense);
        let saying = Arc::clone(&said);
        let address = raw(move |mut stream| {
            let nonsense = Arc::clone(&saying);
            async move {
                say(&mut stream, nonsense.as_bytes()).await;
                pending::<()>().await;
            }
        })
        .await;
        let verdict = deliver_to(address).await;
        let shown = said.get(..40).unwrap_or(&said);
        assert_eq!(
            (verdict.outcome, verdict.reason, verdict.ambiguous),
            (Outcome::Retry, Reason::InvalidAnswer, true),
            "{shown:?} {verdict:?}"
        );
    }
}

#[tokio::test]
async fn nobody_listening_is_not_ambiguous() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let verdict = deliver_to(address).await;
    assert_eq!((verdict.outcome, verdict.reason, verdict.ambiguous), (Outcome::Retry, Reason::ConnectionRefused, false));
    assert!(verdict.detail.starts_with(&format!("{address}: Connection refused")), "{verdict:?}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_a_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let toml = format!("url = \"https://{address}/\"\nconnect_timeout = \"100ms\"\ninsecure_skip_verify = true");
    let verdict = webhook(&toml).deliver(&sample()).await;
    assert_eq!(verdict, Verdict::retry(Reason::ConnectTimeout, format!("no connection to {address} within 100ms")));
    let short = format!("url = \"https://{address}/\"\nrequest_timeout = \"100ms\"\ninsecure_skip_verify = true");
    assert_eq!(webhook(&short).deliver(&sample()).await.reason, Reason::ConnectTimeout);
}

#[tokio::test]
async fn a_connection_that_the_receiver_closed_while_idle_is_replaced_unnoticed() {
    let (closed, mut is_closed) = tokio::sync::mpsc::unbounded_channel();
    let address = raw(move |mut stream| {
        let closed = closed.clone();
        async move {
            say(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            drop(stream);
            closed.send(()).ok();
        }
    })
    .await;
    let handler = webhook(&format!("url = \"http://{address}\""));
    for _ in 0..5 {
        assert_eq!(handler.deliver(&sample()).await, Verdict::delivered().with_status(200));
        is_closed.recv().await;
    }
}

#[tokio::test]
async fn a_dropped_delivery_leaves_the_handler_working() {
    let address = raw(|mut stream| async move {
        static FIRST: std::sync::Once = std::sync::Once::new();
        let mut is_first = false;
        FIRST.call_once(|| is_first = true);
        if is_first {
            pending::<()>().await;
        }
        say(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let handler = webhook(&format!("url = \"http://{address}\""));
    let notification = sample();
    tokio::time::timeout(Duration::from_millis(200), handler.deliver(&notification)).await.expect_err("the first one hangs");
    assert!(handler.deliver(&notification).await.is_delivered());
}

#[tokio::test]
async fn an_answer_before_the_whole_body_was_read_still_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_u8().await.expect("the beginning of a request");
        say(&mut stream, b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
        pending::<()>().await;
    });
    let handler = webhook(&format!("url = \"http://{address}\"\nmax_payload = \"64MiB\""));
    let verdict = handler.deliver(&Notification::sample("t", &format!("\"{}\"", "x".repeat(20_000_000)))).await;
    assert_eq!((verdict.reason, verdict.status), (Reason::TooLarge, Some(413)), "{verdict:?}");
}
