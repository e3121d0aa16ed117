//! What commands answer: text and an exit code.

use std::io::Write;

/// What to print and with which code to leave.
pub struct Failure {
    pub text: String,
    pub code: u8,
}

/// A failure of the input: nothing was written.
pub fn wrong(text: impl std::fmt::Display) -> Failure {
    Failure { text: format!("error: {text}"), code: 2 }
}

/// A failure while running.
pub fn failed(text: impl std::fmt::Display) -> Failure {
    Failure { text: format!("error: {text}"), code: 1 }
}

/// Prints an answer. A reader that has seen enough (`| head`) is no failure.
pub fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(format!("could not print: {error}"))),
        _ => Ok(()),
    }
}
