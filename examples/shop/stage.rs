//! The database of the shop: the one that `DATABASE_URL` names, or a private, throw-away Postgres.

use std::error::Error;

use outboxd::RelayBuilder;
use outboxd::launcher::{Options, Postgres};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::tables;

/// The database, with the outbox and the tables of the shop in it. A private one is gone when this is dropped.
pub struct Stage {
    pub url: String,
    pub pool: PgPool,
    pub server: Option<Postgres>,
}

impl Stage {
    pub async fn prepare() -> Result<Self, Box<dyn Error>> {
        let (url, server) = match std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(url) => (url, None),
            None => {
                let server = tokio::task::spawn_blocking(|| Postgres::start(Options::default())).await??;
                (server.url("postgres"), Some(server))
            }
        };
        let pool = PgPoolOptions::new().max_connections(20).connect(&url).await?;
        RelayBuilder::new(url.clone()).migrate().await?; // or, once for a deployment: outboxd migrate
        tables::create(&pool).await?;
        Ok(Self { url, pool, server })
    }

    /// Stops a private server and removes its data.
    pub async fn clear(self) -> Result<(), Box<dyn Error>> {
        self.pool.close().await;
        Ok(tokio::task::spawn_blocking(|| drop(self.server)).await?)
    }
}
