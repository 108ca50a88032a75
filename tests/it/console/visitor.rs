//! Whoever asks the console: a browser, a program, an attacker. Sends what the test says and nothing else, one request per connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Somebody with the same headers on every request.
#[derive(Debug, Clone)]
pub struct Visitor {
    address: String,
    host: String,
    headers: Vec<(String, String)>,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Visit {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Visit {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of the first hidden field of this name in a form.
    pub fn hidden(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let start = self.body.find(&mark).unwrap_or_else(|| panic!("no field {name} in {}", self.body)) + mark.len();
        self.body[start..].split('"').next().expect("a value ends").to_owned()
    }
}

impl Visitor {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), host: address.to_owned(), headers: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a browser sends a form of the page's own.
    pub fn same_origin(self) -> Self {
        self.with("sec-fetch-site", "same-origin")
    }

    pub fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub async fn get(&self, path: &str) -> Visit {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Visit {
        let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        self.ask("POST", path, &[("content-type", "application/x-www-form-urlencoded")], &body).await
    }

    pub async fn ask(&self, method: &str, target: &str, more: &[(&str, &str)], body: &str) -> Visit {
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !self.host.is_empty() {
            head.push_str(&format!("host: {}\r\n", self.host));
        }
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.chain(more.iter().copied()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send(&format!("{head}\r\n{body}")).await
    }

    /// Sends these very bytes.
    pub async fn send(&self, request: &str) -> Visit {
        let mut stream = TcpStream::connect(&self.address).await.expect("the console listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers and closes");
        understand(&String::from_utf8_lossy(&answer))
    }
}

fn understand(answer: &str) -> Visit {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Visit { status: status.unwrap_or_else(|| panic!("no status: {answer:?}")), headers: headers.collect(), body: body.to_owned() }
}
