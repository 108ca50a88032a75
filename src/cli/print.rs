//! Standard output: a reader that stops early, such as `head`, is not a failure.

use std::io::{self, Write};

use super::CliError;

/// Prints a whole text. `println!` would panic when the reader has gone.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::failed(error)),
        _ => Ok(()),
    }
}
