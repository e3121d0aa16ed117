//! What samples tell of a model: ranges and histograms of values, means, second moments, gradients. Pruning, clustering and quantization
//! ask here, so that each statistic is gathered in one way, in one streaming pass, in memory that does not grow with the samples.

mod columns;
mod error;
mod extremes;
mod gather;
mod gradients;
mod histogram;
mod moments;
mod not_finite;
mod observer;
mod parts;
mod relevant;
mod sketch;

pub use columns::{ColumnStatistics, each_columns, input_norms, products};
pub use error::CalibrateError;
pub use extremes::{Extremes, extremes};
pub use gather::{Statistics, Wanted, gather};
pub use gradients::{fisher, saliency};
pub use histogram::{Focused, Histogram};
pub use moments::{Moments, moments};
pub use not_finite::NotFinite;
pub use observer::{Observer, Watch};
pub use parts::{Compress, Multiplied, Wants, has_parts, part_by_part};
pub use relevant::Relevant;

/// Where progress goes: what is done, how much of it, and of how much.
pub type Progress<'a> = &'a dyn Fn(&str, usize, usize);
