//! What the rows look like that a weight multiplies, column by column: second moments, norms, extremes.

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Layer, Model, OpResult};
use tch::{Kind, Tensor};

use crate::Progress;
use crate::error::CalibrateError;

/// Samples a batch.
const BATCH: usize = 64;

/// What the rows that a weight multiplies look like, column by column.
#[derive(Debug)]
pub struct ColumnStatistics {
    /// `X^T X`, float32 `[fan-in, fan-in]`: the Hessian of the squared error of the layer's output, but for a factor of two.
    pub product: Tensor,
    /// The least of each column, float32 `[fan-in]`.
    pub low: Tensor,
    /// The greatest.
    pub high: Tensor,
    /// The largest magnitude.
    pub largest: Tensor,
    /// The mean magnitude.
    pub mean: Tensor,
    /// The number of rows.
    pub rows: i64,
}

impl ColumnStatistics {
    /// Of rows `[rows, fan-in]`.
    pub(crate) fn of(rows: &Tensor) -> OpResult<Self> {
        let rows = rows.f_to_kind(Kind::Float)?;
        let magnitude = rows.f_abs()?;
        Ok(Self {
            product: rows.f_tr()?.f_matmul(&rows)?,
            low: rows.f_amin(0, false)?,
            high: rows.f_amax(0, false)?,
            largest: magnitude.f_amax(0, false)?,
            mean: magnitude.f_mean_dim(0, false, Kind::Float)?,
            rows: rows.size()[0],
        })
    }

    /// Of both.
    pub(crate) fn join(self, other: Self) -> OpResult<Self> {
        let rows = self.rows + other.rows;
        let weigh = |t: &Tensor, n: i64| t.f_mul_scalar(n as f64 / rows.max(1) as f64);
        Ok(Self {
            product: self.product.f_add(&other.product)?,
            low: self.low.f_minimum(&other.low)?,
            high: self.high.f_maximum(&other.high)?,
            largest: self.largest.f_maximum(&other.largest)?,
            mean: weigh(&self.mean, self.rows)?.f_add(&weigh(&other.mean, other.rows)?)?,
            rows,
        })
    }
}

/// Shows the rows that each layer's weight multiplies, over samples.
pub fn each_columns(
    model: &Model,
    samples: &Split,
    progress: Progress,
    visit: &mut dyn FnMut(&Layer, &Tensor) -> OpResult<()>,
) -> Result<(), CalibrateError> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    let (mut seen, all) = (0, samples.len());
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch?;
        tch::no_grad(|| runner.run_columns(&batch.inputs, visit))?;
        seen += batch.count() as usize;
        progress("inputs", seen, all);
    }
    Ok(())
}

/// `X^T X` of what each of these weights multiplies, float64 `[fan-in, fan-in]`, in sums of float32; with a column of ones at the end
/// where `biased`, so that a bias can be fitted too. Weights that are not one matrix have none.
pub fn products(
    model: &Model,
    weights: &BTreeSet<String>,
    biased: bool,
    samples: &Split,
    progress: Progress,
) -> Result<BTreeMap<String, Tensor>, CalibrateError> {
    let mut products: BTreeMap<String, Tensor> = BTreeMap::new();
    each_columns(model, samples, progress, &mut |layer, rows| {
        if !weights.contains(&layer.weight) {
            return Ok(());
        }
        let mut rows = rows.f_to_kind(Kind::Float)?;
        if biased {
            rows = rows.f_constant_pad_nd([0, 1])?;
            let _ = rows.f_narrow(1, rows.size()[1] - 1, 1)?.f_fill_(1.0)?;
        }
        let product = rows.f_tr()?.f_matmul(&rows)?.f_to_kind(Kind::Double)?;
        let sum = match products.remove(&layer.weight) {
            Some(sum) => sum.f_add(&product)?,
            None => product,
        };
        products.insert(layer.weight.clone(), sum);
        Ok(())
    })?;
    Ok(products)
}

/// The Euclidean norm of each layer's inputs over samples, of the weight's shape: constant over output channels.
pub fn input_norms(model: &Model, samples: &Split, progress: Progress) -> Result<BTreeMap<String, Tensor>, CalibrateError> {
    let mut sums: BTreeMap<String, (Layer, Tensor)> = BTreeMap::new();
    each_columns(model, samples, progress, &mut |layer, rows| {
        let squares = rows.f_square()?.f_sum_dim_intlist(0, false, Kind::Float)?;
        let sum = match sums.remove(&layer.weight) {
            Some((_, sum)) => sum.f_add(&squares)?,
            None => squares,
        };
        sums.insert(layer.weight.clone(), (layer.clone(), sum));
        Ok(())
    })?;
    let mut norms = BTreeMap::new();
    for (name, (layer, sum)) in sums {
        let size = model.weight(&name)?.size();
        let matrix = sum.f_sqrt()?.f_unsqueeze(0)?.f_expand([size[layer.slot.out_axis], -1], false)?;
        norms.insert(name, layer.slot.from_matrix(&matrix, &size)?);
    }
    Ok(norms)
}
