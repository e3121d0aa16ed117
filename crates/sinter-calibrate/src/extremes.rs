//! The least and the greatest of many numbers, in one pass of all threads.

use rayon::prelude::*;

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 16;

/// What one look at some elements tells.
#[derive(Debug, Clone, Copy)]
pub struct Extremes {
    /// The smallest that is finite; above `high` when there is none.
    pub low: f32,
    /// The largest that is finite.
    pub high: f32,
    /// Whether there is no infinity and no NaN.
    pub all_finite: bool,
}

/// The smallest and the largest element that are finite; the smallest above the largest when there are none.
pub fn extremes(values: &[f32]) -> Extremes {
    let none = Extremes { low: f32::INFINITY, high: f32::NEG_INFINITY, all_finite: true };
    let both = |a: Extremes, b: Extremes| Extremes {
        low: a.low.min(b.low),
        high: a.high.max(b.high),
        all_finite: a.all_finite && b.all_finite,
    };
    let seen = values.par_chunks(CHUNK).map(all_extremes).reduce(|| none, both);
    if seen.all_finite {
        return seen;
    }
    let finite = |part: &[f32]| {
        part.iter().fold(none, |seen, &v| match v.is_finite() {
            true => both(seen, Extremes { low: v, high: v, all_finite: true }),
            false => Extremes { all_finite: false, ..seen },
        })
    };
    values.par_chunks(CHUNK).map(finite).reduce(|| none, both)
}

/// The same with infinities, several elements side by side. Comparisons with NaN are false, so it never wins; but what is not finite
/// leaves no zero when multiplied by zero.
fn all_extremes(values: &[f32]) -> Extremes {
    const LANES: usize = 16;
    let (mut low, mut high, mut nothing) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES], [0.0f32; LANES]);
    let mut look = |part: &[f32]| {
        for (v, ((low, high), nothing)) in part.iter().zip(low.iter_mut().zip(&mut high).zip(&mut nothing)) {
            *low = if *v < *low { *v } else { *low };
            *high = if *v > *high { *v } else { *high };
            *nothing += *v * 0.0;
        }
    };
    let parts = values.chunks_exact(LANES);
    look(parts.remainder());
    parts.for_each(look);
    Extremes {
        low: low.into_iter().fold(f32::INFINITY, f32::min),
        high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        all_finite: nothing.iter().all(|n| *n == 0.0),
    }
}
