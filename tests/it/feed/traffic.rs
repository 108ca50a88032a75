//! What passes between a client and the feed beside the events: pages that are compressed, and requests above the rate of a client.

use tokio::process::Command;

use super::client::{self, ALL, EventStream, FEED, Served};
use super::pages::{ask_as, order};
use super::wait_for_places;
use crate::support::TestDatabase;

/// Reads a page as a client that knows gzip, with a library that is not ours: prints the encoding, whether the tag is a weak one, and how many events.
const READS_GZIP: &str = "
import gzip, json, sys, urllib.request
address, token, path = sys.argv[1:]
asked = urllib.request.Request('http://' + address + path, headers={'Authorization': 'Bearer ' + token, 'Accept-Encoding': 'gzip'})
answer = urllib.request.urlopen(asked)
body, encoding = answer.read(), answer.headers.get('Content-Encoding')
events = json.loads(gzip.decompress(body) if encoding == 'gzip' else body)
print(encoding, answer.headers.get('ETag').startswith('W/'), len(events))
";

#[tokio::test(flavor = "multi_thread")]
async fn a_large_page_is_compressed_for_a_client_that_asks_for_it_and_a_stream_is_not() {
    let database = TestDatabase::create().await;
    database.insert_events((1..=100).map(order)).await;
    let served = Served::start(&database, FEED).await;
    wait_for_places(&database, 100).await;
    for (path, want) in [("/v1/feed?limit=100", "gzip True 100"), ("/v1/feed?limit=1", "None False 1")] {
        let reader = Command::new("python3").args(["-c", READS_GZIP, &served.address, ALL, path]).output().await.expect("python3");
        let said = String::from_utf8_lossy(&reader.stdout).into_owned();
        assert_eq!(said.trim_end(), want, "{path}: {}", String::from_utf8_lossy(&reader.stderr));
    }
    let plain = served.ask("/v1/feed?limit=100").await;
    assert_eq!((plain.header("content-encoding"), plain.ids().len()), (None, 100));
    let bearer = format!("Bearer {ALL}");
    let tag = format!("W/{}", plain.header("etag").expect("a tag"));
    let headers = [("authorization", bearer.as_str()), ("accept-encoding", "gzip"), ("if-none-match", &tag)];
    let again = client::ask(&served.address, "/v1/feed?limit=100", &headers).await.expect("answered");
    assert_eq!((again.status, again.header("content-encoding")), (304, None));
    let asked = vec![("authorization", bearer.as_str()), ("accept-encoding", "gzip")];
    let opened = EventStream::open_with(&served.address, "/v1/feed", asked).await.expect("answered");
    let first = opened.expect("a stream").next_event().await.expect("an event that is no bytes of gzip");
    assert!(first.data.contains("\"subject\":\"1\""), "{first:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_above_the_rate_of_a_client_are_refused_for_as_long_as_they_are_told() {
    let database = TestDatabase::create().await;
    database.insert_event(order(1)).await;
    let slow = "[[clients]]\nname = \"slow\"\ntokens = [\"token-of-slow-0123456789\"]\nrate = \"2/h\"\nburst = 3\n";
    let served = Served::start(&database, &format!("{FEED}{slow}")).await;
    wait_for_places(&database, 1).await;
    let slow = async |path: &str| ask_as(&served, "token-of-slow-0123456789", path).await;
    // Whatever it asks for counts.
    assert_eq!(slow("/v1/feed").await.status, 200);
    assert_eq!(slow("/v1/contracts").await.status, 200);
    assert_eq!(slow("/v1/events/none").await.status, 400);
    for path in ["/v1/feed", "/v1/feed?wait=10s&after=latest", "/v1/contracts", "/v1/events/none", "/v1/streams/order/1"] {
        let refused = slow(path).await;
        assert_eq!((refused.status, refused.json()["type"].as_str()), (429, Some("urn:outboxd:rate-limited")), "{path}");
        let seconds: u64 = refused.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("how long");
        assert!((1_700..=1_800).contains(&seconds), "{seconds}");
    }
    for _ in 0..20 {
        assert_eq!(served.ask("/v1/feed").await.status, 200, "another client");
    }
    served.stop().await;
}
