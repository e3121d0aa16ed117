//! Mean and variance of each channel of values.

use std::collections::BTreeMap;

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Mode, Model};
use tch::{Kind, Tensor};

use crate::error::CalibrateError;

/// Samples a batch.
const BATCH: usize = 128;

/// Mean and variance of each channel, float32 `[channels]`.
#[derive(Debug)]
pub struct Moments {
    /// The mean.
    pub mean: Tensor,
    /// The variance, zero or more.
    pub variance: Tensor,
}

/// Of these values, whose channels are their second axis; by name.
pub fn moments(model: &Model, values: &[&str], samples: &Split, mode: Mode) -> Result<BTreeMap<String, Moments>, CalibrateError> {
    let mut sums: BTreeMap<String, Option<(Tensor, Tensor)>> = values.iter().map(|name| (name.to_string(), None)).collect();
    let runner = tch::no_grad(|| Runner::new(model))?;
    let mut count = 0;
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch?;
        let each = batch.count();
        // One sample alone has no variance.
        if each == 1 && count > 0 {
            continue;
        }
        tch::no_grad(|| {
            runner.run_tapped(&batch.inputs, mode, &mut |name, value| {
                Ok(sums.get_mut(name).map_or(Ok(()), |s| add(s, value, each))?)
            })
        })?;
        count += each;
    }
    let mut found = BTreeMap::new();
    for (name, sum) in sums {
        if let Some((sum, squares)) = sum {
            let mean = sum.f_div_scalar(count)?;
            let variance = squares.f_div_scalar(count)?.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
            found.insert(name, Moments { mean: mean.f_to_kind(Kind::Float)?, variance: variance.f_to_kind(Kind::Float)? });
        }
    }
    Ok(found)
}

/// Adds the means of a batch of so many samples and of its squares, that many times, float64 `[channels]`.
fn add(sum: &mut Option<(Tensor, Tensor)>, value: &Tensor, samples: i64) -> Result<(), tch::TchError> {
    let others: Vec<i64> = (0..value.dim() as i64).filter(|&axis| axis != 1).collect();
    let value = value.f_to_kind(Kind::Double)?;
    let all = |t: &Tensor| t.f_mean_dim(&others[..], false, None)?.f_mul_scalar(samples);
    let (mean, squares) = (all(&value)?, all(&value.f_square()?)?);
    *sum = Some(match sum.take() {
        Some((a, b)) => (a.f_add(&mean)?, b.f_add(&squares)?),
        None => (mean, squares),
    });
    Ok(())
}
