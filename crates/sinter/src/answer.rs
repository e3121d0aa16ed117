//! What commands answer: text and an exit code.

use std::io::Write;

use miette::{GraphicalReportHandler, GraphicalTheme};
use sinter_pipeline::ConfigError;

use crate::terminal::is_rich;

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

/// A failure of a configuration file, with the lines around it.
pub fn config(error: ConfigError) -> Failure {
    let theme = if is_rich() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_context_lines(1);
    if handler.render_report(&mut text, &error).is_err() {
        text = error.to_string();
    }
    let text = text.trim_end().trim_start_matches([' ', '×']);
    Failure { text: format!("error: {text}"), code: 2 }
}

/// Prints an answer. A reader that has seen enough (`| head`) is no failure.
pub fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(format!("could not print: {error}"))),
        _ => Ok(()),
    }
}
