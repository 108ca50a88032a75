//! A place to stop at: with `SHOP_PAUSE_AT=between_writes` the shop says so and goes no further, so that somebody can kill it there
//! (`kill -9`) and look whether half an order is left. Without the variable nothing happens.

/// Never returns if this is the place that was asked for.
pub async fn pause_at(place: &str) {
    if std::env::var("SHOP_PAUSE_AT").is_ok_and(|wanted| wanted == place) {
        println!("paused at {place}: kill process {} to see what is left", std::process::id());
        std::future::pending::<()>().await;
    }
}
