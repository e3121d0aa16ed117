//! Errors in a user's file, with the place.

use miette::{Diagnostic, NamedSource, SourceSpan};

/// Something in a configuration file that can't be followed: what, where, and what to do.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong.
    pub message: String,
    #[source_code]
    source_code: Option<NamedSource<String>>,
    #[label("{label}")]
    span: Option<SourceSpan>,
    label: String,
    /// What to do.
    #[help]
    pub help: Option<String>,
}

impl ConfigError {
    /// An error without a place in a file.
    pub fn plain(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), source_code: None, span: None, label: String::new(), help }
    }

    /// An error at a range of a file; the label stands at the place.
    pub(super) fn at(
        source: NamedSource<String>,
        range: std::ops::Range<usize>,
        message: String,
        label: &str,
        help: Option<String>,
    ) -> Self {
        Self { message, source_code: Some(source), span: Some(range.into()), label: label.to_string(), help }
    }

    /// `FILE:LINE:COLUMN` of the place, where there is one.
    pub fn place(&self) -> Option<String> {
        let (source, span) = (self.source_code.as_ref()?, self.span?);
        let before = source.inner().get(..span.offset())?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        Some(format!("{}:{line}:{column}", source.name()))
    }
}
