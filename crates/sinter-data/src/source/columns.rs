//! Samples of several arrays, one for each input of a model.

use tch::Tensor;

use super::Samples;
use crate::error::DataError;

/// The arrays, all of as many samples.
pub(crate) struct Columns {
    /// At least one.
    pub columns: Vec<Column>,
    pub labels: Option<Vec<i64>>,
    pub count: usize,
}

/// The array of one input.
pub(crate) struct Column {
    /// The model's input.
    pub input: String,
    /// Of one sample.
    pub shape: Vec<i64>,
    pub values: Values,
}

/// Its elements, one sample after the other.
pub(crate) enum Values {
    Real(Vec<f32>),
    Whole(Vec<i64>),
}

impl Column {
    /// Some samples along the first axis, float32 or int64.
    pub fn take(&self, indices: &[usize]) -> Result<Tensor, tch::TchError> {
        fn rows<T: Copy>(values: &[T], each: usize, indices: &[usize]) -> Vec<T> {
            indices.iter().flat_map(|i| values[i * each..(i + 1) * each].iter().copied()).collect()
        }
        let each = self.shape.iter().product::<i64>() as usize;
        let flat = match &self.values {
            Values::Real(values) => Tensor::f_from_slice(&rows(values, each, indices))?,
            Values::Whole(values) => Tensor::f_from_slice(&rows(values, each, indices))?,
        };
        flat.f_reshape([&[indices.len() as i64], &self.shape[..]].concat())
    }
}

impl Samples for Columns {
    fn len(&self) -> usize {
        self.count
    }

    /// That of the first array.
    fn shape(&self) -> &[i64] {
        self.columns.first().map_or(&[], |c| &c.shape)
    }

    fn read(&self, index: usize, out: &mut [f32]) -> Result<(), DataError> {
        let size = out.len();
        match self.columns.first().map(|c| &c.values) {
            Some(Values::Real(values)) => out.copy_from_slice(&values[index * size..(index + 1) * size]),
            Some(Values::Whole(values)) => {
                out.iter_mut().zip(&values[index * size..]).for_each(|(o, v)| *o = *v as f32);
            }
            None => {}
        }
        Ok(())
    }

    fn columns(&self) -> Option<&[Column]> {
        Some(&self.columns)
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.labels.as_ref().and_then(|l| l.get(index).copied())
    }
}
