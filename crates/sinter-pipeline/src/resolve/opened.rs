//! Data that was opened: plans of the same data, one after the other, share it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use sinter_data::{DataConfig, Dataset};

use super::checks::data_error;
use super::key::hash_path;
use crate::files::{ConfigError, Source};

/// What was opened last. Its files are hashed when they are read, and neither is done again.
#[derive(Debug, Default)]
pub struct Opened(RefCell<Option<Data>>);

/// Samples, and what their files hold.
#[derive(Debug, Clone)]
pub(super) struct Data {
    /// Its configuration, as JSON.
    described: serde_json::Value,
    pub samples: Dataset,
    /// blake3 of each file, by what it is.
    pub files: BTreeMap<String, String>,
}

impl Opened {
    /// Opens data, unless it is what was opened last. Errors stand at their places in the data file.
    pub(super) fn open(&self, config: &DataConfig, source: &Source) -> Result<Data, ConfigError> {
        let described = serde_json::to_value(config).unwrap_or_default();
        let mut last = self.0.borrow_mut();
        if let Some(data) = last.as_ref().filter(|data| data.described == described) {
            return Ok(data.clone());
        }
        let samples = Dataset::open(config).map_err(|e| data_error(&e, source))?;
        let files = config.files().into_iter().enumerate().map(|(i, file)| Ok((format!("data {i}"), hash_path(&file)?)));
        let files = files.collect::<Result<_, String>>().map_err(|reason| ConfigError::plain(reason, None))?;
        Ok(last.insert(Data { described, samples, files }).clone())
    }
}
