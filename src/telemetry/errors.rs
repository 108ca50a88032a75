//! Errors as text for operators: one line, with the causes.

use std::error::Error;

/// An error and its causes on one line, without saying anything twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = words(error);
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = if is_of_server(error) { None } else { error.source() };
    }
    text
}

/// The message of the server with its SQLSTATE; the driver adds the line of the server's own source.
fn words(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(server)) => match server.code() {
            Some(code) => format!("{} ({code})", server.message()),
            None => server.message().to_owned(),
        },
        _ => error.to_string(),
    }
}

fn is_of_server(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref::<sqlx::Error>(), Some(sqlx::Error::Database(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    }

    #[test]
    fn causes_stand_behind_one_another_and_nothing_is_said_twice() {
        let root = Layer { text: "no route to host", cause: None };
        let repeated = Layer { text: "could not connect", cause: Some(Box::new(root)) };
        let error = Layer { text: "could not connect to the database", cause: Some(Box::new(repeated)) };
        assert_eq!(chain(&error), "could not connect to the database: no route to host");
    }
}
