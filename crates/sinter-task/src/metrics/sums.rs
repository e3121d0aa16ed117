//! Sums over what came out and what should have, of each sample by itself: what errors and correlations are computed from.

use sinter_model::to_f32s;
use tch::{Kind, Tensor};

use super::{Alone, Seen, Tally, rows_of};
use crate::error::TaskError;

/// Of the values of one sample, or of many.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// The number of values.
    pub count: f64,
    /// Of the magnitudes of errors.
    pub absolute: f64,
    /// Of the squares of errors.
    pub square: f64,
    /// Of what came out, its squares, and its products with what should have.
    pub x: f64,
    pub xx: f64,
    pub xy: f64,
    /// Of what should have come out, and its squares.
    pub y: f64,
    pub yy: f64,
}

/// From sums to a value.
pub(super) type Value = fn(&Sum) -> f64;

/// What is compared: `[n, values]` each, what came out first.
pub(super) type Pair = fn(&Seen) -> Result<(Tensor, Tensor), TaskError>;

/// Sums over batches.
pub(super) struct Sums {
    pair: Pair,
    value: Value,
    each: Vec<[f64; 8]>,
}

impl Sums {
    /// With nothing seen.
    pub fn start(pair: Pair, value: Value) -> Box<dyn Tally> {
        Box::new(Self { pair, value, each: vec![] })
    }
}

/// The first output and the labels.
pub(super) fn with_labels(seen: &Seen) -> Result<(Tensor, Tensor), TaskError> {
    let labels = seen.labels("the metric")?.f_to_kind(Kind::Float)?;
    let output = rows_of(seen.output())?;
    Ok((output.shallow_clone(), labels.f_reshape(output.size())?))
}

impl Tally for Sums {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (x, y) = (self.pair)(seen)?;
        let (x, y) = (x.f_to_kind(Kind::Double)?, y.f_to_kind(Kind::Double)?);
        let error = x.f_sub(&y)?;
        let (ones, xx, xy, yy) = (x.f_ones_like()?, x.f_square()?, x.f_mul(&y)?, y.f_square()?);
        let parts = [ones, error.f_abs()?, error.f_square()?, x, xx, xy, y, yy];
        let rows = parts.iter().map(|p| p.f_sum_dim_intlist(1, false, Kind::Double)).collect::<Result<Vec<_>, _>>()?;
        let flat: Vec<f64> = Vec::try_from(Tensor::f_stack(&rows, 1)?.f_reshape([-1])?)?;
        self.each.extend(flat.chunks_exact(8).map(|c| [c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]));
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        let mut all = [0.0; 8];
        for (each, &t) in self.each.iter().zip(times).filter(|(_, t)| **t > 0) {
            all.iter_mut().zip(each).for_each(|(sum, v)| *sum += v * f64::from(t));
        }
        (self.value)(&sum(all))
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.each.get(sample).map(|each| Alone::of((self.value)(&sum(*each))))
    }
}

fn sum([count, absolute, square, x, xx, xy, y, yy]: [f64; 8]) -> Sum {
    Sum { count: count.max(1.0), absolute, square, x, xx, xy, y, yy }
}

/// Of one value: what came out, what should have, and the sample.
pub(super) type ValuePair = (f32, f32, u32);

/// Single values of what came out and what should have.
pub(super) struct Pairs {
    all: Vec<ValuePair>,
    samples: u32,
    value: fn(&[ValuePair], &[u32]) -> f64,
}

impl Pairs {
    /// With nothing seen.
    pub fn start(value: fn(&[ValuePair], &[u32]) -> f64) -> Box<dyn Tally> {
        Box::new(Self { all: vec![], samples: 0, value })
    }
}

impl Tally for Pairs {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (x, y) = with_labels(seen)?;
        let each = x.size()[1].max(1) as usize;
        let pairs = to_f32s(&x)?.into_iter().zip(to_f32s(&y)?).enumerate();
        self.all.extend(pairs.map(|(at, (x, y))| (x, y, self.samples + (at / each) as u32)));
        self.samples += seen.count().max(0) as u32;
        Ok(())
    }

    /// Ranks are sorted anew for each value.
    fn entries(&self) -> usize {
        8 * self.all.len()
    }

    fn value(&self, times: &[u32]) -> f64 {
        (self.value)(&self.all, times)
    }
}
