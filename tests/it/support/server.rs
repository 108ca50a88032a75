//! The server of this test run: given by the environment, or a private one that starts with the first test that wants it.
//! Nobody stops the private one: it ends with this process, whichever way that ends (see `outboxd::launcher`).

use std::sync::OnceLock;

use outboxd::launcher::{Options, Postgres};

/// Address of a database on the shared server.
pub fn server_url(database: &str) -> String {
    match given_url() {
        Some(url) => with_database(&url, database),
        None => shared().url(database),
    }
}

/// A server of the test's own, for tests that stop, kill or exhaust it. Takes a second; the settings are those of the shared one.
pub async fn own_server(settings: &[(&str, &str)]) -> Postgres {
    let mut options = options();
    options.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    tokio::task::spawn_blocking(|| start(options)).await.expect("starting a server does not panic")
}

/// Whether databases and data should be there after the run.
pub fn is_kept() -> bool {
    std::env::var_os("OUTBOXD_TEST_KEEP").is_some()
}

pub fn is_private() -> bool {
    given_url().is_none()
}

fn shared() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = start(options());
        eprintln!("tests run on Postgres {} in {}", server.version(), server.data_dir().display());
        server
    })
}

fn start(options: Options) -> Postgres {
    Postgres::start(options).unwrap_or_else(|error| panic!("{error}; `make install-tools` installs one"))
}

fn options() -> Options {
    let options = Options { keep_data: is_kept(), ..Options::default() };
    options
        .setting("fsync", "off")
        .setting("max_connections", "400")
        .setting("max_prepared_transactions", "10")
        .setting("wal_level", "replica")
}

fn given_url() -> Option<String> {
    std::env::var("OUTBOXD_TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())
}

fn with_database(url: &str, database: &str) -> String {
    let mut url =
        url::Url::parse(url).expect("OUTBOXD_TEST_DATABASE_URL is an address such as postgres://user:password@host:port/postgres");
    url.set_path(database);
    url.into()
}
