//! Running text as windows of tokens, each with the tokens that follow.

use std::path::Path;
use std::sync::Arc;

use sinter_model::{Ratio, guarded};
use tokenizers::Tokenizer;

use super::{Found, Held, Samples, WithTargets, unzipped};
use crate::config::TextConfig;
use crate::error::DataError;
use crate::task::{NO_LABEL, Task};

/// The windows of both texts. `share` is the end of a text that is measured on, where there is no second one.
pub(super) fn find(config: &TextConfig, task: Task, share: Ratio) -> Result<Found, DataError> {
    let fail = |reason: String| DataError::format(&config.path, reason);
    if !matches!(task, Task::Language(_)) {
        return Err(fail("text goes with `task: language`".into()));
    }
    let context = config.context.unwrap_or(config.tokens / 2).max(1);
    if config.tokens < 2 || context >= config.tokens {
        return Err(fail(format!(
            "windows of {} tokens with {context} that are not scored leave none: give more `tokens`",
            config.tokens
        )));
    }
    let Some(path) = &config.tokenizer else {
        return Err(fail("text needs a `tokenizer`: the tokenizer.json of the model's folder".into()));
    };
    let tokenizer = guarded(|| Tokenizer::from_file(path)).unwrap_or_else(|said| Err(said.into()));
    let mut tokenizer = tokenizer.map_err(|e| DataError::format(path, format!("it is no tokenizer that can be read: {e}")))?;
    // What it does to a prompt shall not be done to a text.
    tokenizer.with_padding(None);
    let whole = tokenizer.with_truncation(None).map(drop);
    whole.map_err(|e| DataError::format(path, format!("it is no tokenizer that can be read: {e}")))?;
    let windows = |path: &Path| -> Result<Vec<u32>, DataError> {
        let text = read(path)?;
        let ids = guarded(|| tokenizer.encode(text, true)).unwrap_or_else(|said| Err(said.into()));
        let mut ids = ids.map_err(|e| DataError::format(path, format!("it can't be tokenized: {e}")))?.get_ids().to_vec();
        if ids.len() < config.tokens {
            let reason = format!(
                "the text has {} tokens, fewer than one window of {}: give a longer text, or fewer `tokens`",
                ids.len(),
                config.tokens
            );
            return Err(DataError::format(path, reason));
        }
        ids.truncate(ids.len() / config.tokens * config.tokens);
        Ok(ids)
    };
    let mut train = windows(&config.path)?;
    let test = match &config.test {
        Some(test) => windows(test)?,
        None => {
            let all = train.len() / config.tokens;
            let measured = ((all as f64 * share.get()).round() as usize).clamp(1, all);
            train.split_off((all - measured) * config.tokens)
        }
    };
    let most = train.iter().chain(&test).max().copied().unwrap_or(0);
    let samples = |ids: &[u32], context: usize, path: &Path| samples(ids, config.tokens, context, (path, task));
    let test = samples(&test, context, config.test.as_deref().unwrap_or(&config.path))?;
    let train = samples(&train, 1, &config.path)?;
    // What a model must have a score for; so many that there is no such vocabulary are refused by now.
    let classes = (0..=most).map(|id| tokenizer.id_to_token(id).unwrap_or_else(|| id.to_string())).collect();
    Ok(Found { train, test: Some(test), classes })
}

/// Windows with the tokens that follow; the first `context` of each are read and not asked for, and so is the one behind its end.
fn samples(ids: &[u32], tokens: usize, context: usize, of: (&Path, Task)) -> Result<Arc<dyn Samples>, DataError> {
    let labels = ids.chunks(tokens).flat_map(|window| {
        let next = |at: usize| window.get(at + 1).filter(|_| at + 1 >= context).map_or(NO_LABEL as f64, |&id| f64::from(id));
        (0..tokens).map(next)
    });
    let labels: Vec<f64> = labels.collect();
    let values: Vec<f32> = ids.iter().map(|&id| id as f32).collect();
    let held = Held { shape: vec![tokens as i64], values, labels: None, divisor: 1.0 };
    Ok(WithTargets::beside(Arc::new(held), of, (vec![tokens as i64], &labels))?.0)
}

fn read(path: &Path) -> Result<String, DataError> {
    String::from_utf8(unzipped(path)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        DataError::format(path, format!("it is no UTF-8 text (byte {at}): convert it, for instance with `iconv -t UTF-8`"))
    })
}
