//! One text that the user wrote: a file, or an argument of the command line.

use std::ops::Range;
use std::path::Path;

use super::error::ConfigError;
use super::positions::Positions;

/// A text of YAML, and where everything in it stands.
#[derive(Debug)]
pub(super) struct Layer {
    pub name: String,
    pub text: String,
    /// Where its YAML begins: behind the `KEY=` of an argument.
    begins: usize,
    positions: Positions,
}

impl Layer {
    /// A file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let help = (e.kind() == std::io::ErrorKind::NotFound)
                .then(|| "check the path; it is relative to the current folder".to_string());
            ConfigError::plain(format!("could not read {}: {e}", path.display()), help)
        })?;
        Ok(Self::new(&path.display().to_string(), text, 0))
    }

    /// A text under a name, whose YAML begins at a byte.
    pub fn new(name: &str, text: String, begins: usize) -> Self {
        Self { name: name.to_string(), positions: Positions::new(text.get(begins..).unwrap_or_default()), begins, text }
    }

    /// The YAML.
    pub fn yaml(&self) -> &str {
        self.text.get(self.begins..).unwrap_or_default()
    }

    /// Where the key at a path stands.
    pub fn key(&self, path: &str) -> Option<Range<usize>> {
        let own = (path.is_empty() && self.begins > 0).then(|| 0..self.begins.saturating_sub(1));
        own.or_else(|| self.positions.key(path).map(|r| self.moved(r)))
    }

    /// The value at a path, or what encloses it.
    pub fn find(&self, path: &str) -> Option<Range<usize>> {
        self.positions.find(path).map(|r| self.moved(r))
    }

    fn moved(&self, range: Range<usize>) -> Range<usize> {
        range.start + self.begins..range.end + self.begins
    }

    /// The character at a line and a column of the YAML, both counted from one.
    pub fn character(&self, line: usize, column: usize) -> Range<usize> {
        let yaml = self.yaml();
        let start = yaml.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
        let line = yaml.get(start..).and_then(|t| t.lines().next()).unwrap_or("");
        let offset = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(i, _)| i);
        self.moved(start + offset..start + offset + usize::from(offset < line.len()))
    }

    /// An error at a range of the text.
    pub fn error(
        &self,
        range: Option<Range<usize>>,
        message: impl Into<String>,
        label: &str,
        help: Option<String>,
    ) -> ConfigError {
        let source = miette::NamedSource::new(&self.name, self.text.clone());
        ConfigError::at(source, range.unwrap_or(0..0), message.into(), label, help)
    }
}
