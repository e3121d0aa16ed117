//! Masks from scores: the largest of all, or the largest of every run of M.

use rayon::prelude::*;
use sinter_model::{NmPattern, OpResult, with_f32s, with_u8s};
use tch::Tensor;

/// Ones for the `n - round(n * sparsity)` elements of largest magnitude; among equals the first are dropped. uint8, same shape as
/// `weight`.
pub fn magnitude_mask(weight: &Tensor, sparsity: f64) -> OpResult<Tensor> {
    let drop = (weight.numel() as f64 * sparsity).round() as usize;
    largest(weight, drop, magnitude)
}

/// Ones for all but the `drop` elements of smallest score. uint8, same shape as `scores`.
pub(crate) fn keep_largest(scores: &Tensor, drop: usize) -> OpResult<Tensor> {
    largest(scores, drop, key)
}

/// Ones for the `n` largest magnitudes of each run of `m` along the pattern's axis; a shorter last run keeps at most `n` too. uint8,
/// same shape as `weight`.
pub fn nm_mask(weight: &Tensor, pattern: NmPattern) -> OpResult<Tensor> {
    runs(weight, pattern, magnitude)
}

/// Ones for the `n` largest scores of each run of `m` along the pattern's axis.
pub(crate) fn keep_nm(scores: &Tensor, pattern: NmPattern) -> OpResult<Tensor> {
    runs(scores, pattern, key)
}

/// An integer that orders as the number does; NaN comes last on its side.
fn key(value: f32) -> i32 {
    let bits = value.to_bits() as i32;
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// An integer that orders as the magnitude does; NaN is the largest.
fn magnitude(value: f32) -> i32 {
    value.to_bits() as i32 & i32::MAX
}

/// Elements that one thread takes at a time.
const CHUNK: usize = 1 << 18;
const BINS: usize = 1 << 16;

/// Ones for all but the `drop` elements of smallest key: selection by a histogram of the keys' upper halves, three passes over memory
/// whatever the share.
fn largest(scores: &Tensor, drop: usize, key: impl Fn(f32) -> i32 + Sync) -> OpResult<Tensor> {
    with_f32s(scores, |values| {
        with_u8s(&scores.size(), |keep| {
            if drop == 0 {
                keep.fill(1);
            } else if drop < values.len() {
                select(values, drop, key, keep);
            }
        })
    })?
}

fn select(values: &[f32], drop: usize, key: impl Fn(f32) -> i32 + Sync, keep: &mut [u8]) {
    let bin = |v: f32| ((key(v) >> 16) + (BINS / 2) as i32) as usize;
    let share = values.len().div_ceil(rayon::current_num_threads()).max(CHUNK);
    let counts = values.par_chunks(share).map(|part| {
        let mut counts = vec![0u32; BINS];
        part.iter().for_each(|&v| counts[bin(v)] += 1);
        counts
    });
    let add = |mut a: Vec<u32>, b: Vec<u32>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    let counts = counts.reduce(|| vec![0; BINS], add);
    let (mut below, mut edge) = (0usize, 0);
    while below + (counts[edge] as usize) < drop {
        below += counts[edge] as usize;
        edge += 1;
    }
    let mut inside: Vec<i32> =
        values.par_chunks(CHUNK).flat_map_iter(|p| p.iter().filter(|v| bin(**v) == edge).map(|v| key(*v))).collect();
    let (less, &mut threshold, _) = inside.select_nth_unstable(drop - 1 - below);
    // Of those at the threshold the first go, as many as are still to go.
    let mut left = drop - below - less.iter().filter(|k| **k < threshold).count();
    keep.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(keep, values)| {
        keep.iter_mut().zip(values).for_each(|(k, &v)| *k = (key(v) >= threshold) as u8);
    });
    for (k, _) in keep.iter_mut().zip(values).filter(|(_, v)| key(**v) == threshold) {
        if left == 0 {
            break;
        }
        *k = 0;
        left -= 1;
    }
}

/// Ones for the `n` largest keys of each run of `m` along the pattern's axis; among equals the first.
fn runs(scores: &Tensor, NmPattern { n, m, axis }: NmPattern, key: impl Fn(f32) -> i32 + Sync) -> OpResult<Tensor> {
    let moved = scores.f_movedim_int(axis as i64, -1)?.f_contiguous()?;
    let row = moved.size().last().copied().unwrap_or(1).max(1) as usize;
    let rows = (CHUNK / row).max(1) * row;
    let keep = with_f32s(&moved, |values| {
        with_u8s(&moved.size(), |keep| {
            keep.par_chunks_mut(rows).zip(values.par_chunks(rows)).for_each(|(keep, values)| {
                for (keep, values) in keep.chunks_mut(row).zip(values.chunks(row)) {
                    match m {
                        // The commonest patterns have lengths that the compiler can unroll.
                        4 => keep_runs::<4>(values, keep, n, &key),
                        8 => keep_runs::<8>(values, keep, n, &key),
                        _ => keep.chunks_mut(m).zip(values.chunks(m)).for_each(|(k, v)| keep_run(v, k, n, &key)),
                    }
                }
            });
        })
    })??;
    Ok(keep.f_movedim_int(-1, axis as i64)?.f_contiguous()?)
}

fn keep_runs<const M: usize>(values: &[f32], keep: &mut [u8], n: usize, key: &impl Fn(f32) -> i32) {
    let (runs, rest) = values.as_chunks::<M>();
    let (kept, kept_rest) = keep.as_chunks_mut::<M>();
    let most = n.min(M) as u8;
    for (run, kept) in runs.iter().zip(kept) {
        let keys = run.map(key);
        // How many come before each: of every pair one does.
        let mut ranks = [0u8; M];
        for i in 0..M {
            for j in i + 1..M {
                let first = (keys[i] >= keys[j]) as u8;
                ranks[j] += first;
                ranks[i] += 1 - first;
            }
        }
        *kept = ranks.map(|rank| (rank < most) as u8);
    }
    keep_run(rest, kept_rest, n, key);
}

fn keep_run(values: &[f32], keep: &mut [u8], n: usize, key: &impl Fn(f32) -> i32) {
    for i in 0..values.len() {
        let (own, other) = (key(values[i]), |j: usize| key(values[j]));
        let before = |j: usize| if j < i { other(j) >= own } else { other(j) > own };
        keep[i] = ((0..values.len()).filter(|&j| before(j)).count() < n) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sinter_model::{Mask, to_f32s};

    #[test]
    fn equal_magnitudes_are_cut_to_the_exact_number() {
        let weight = Tensor::from_slice(&[1f32, -1.0, 1.0, 1.0, 2.0, 0.5]);
        let mask = magnitude_mask(&weight, 0.5).unwrap();
        assert_eq!(to_f32s(&mask).unwrap(), [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn negative_scores_go_first() {
        let mask = keep_largest(&Tensor::from_slice(&[0.5f32, -3.0, 0.0, -0.1]), 2).unwrap();
        assert_eq!(to_f32s(&mask).unwrap(), [1.0, 0.0, 1.0, 0.0]);
    }

    proptest! {
        /// Against sorting: the kept ones are the largest, and their number is exact.
        #[test]
        fn magnitude_masks_keep_the_largest(values in proptest::collection::vec(-4i8..4, 1..60), sparsity in 0.0..1.0f64) {
            let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let mask = to_f32s(&magnitude_mask(&Tensor::from_slice(&floats), sparsity).unwrap()).unwrap();
            let dropped = mask.iter().filter(|m| **m == 0.0).count();
            prop_assert_eq!(dropped, (values.len() as f64 * sparsity).round() as usize);
            let least_kept = floats.iter().zip(&mask).filter(|(_, m)| **m == 1.0).map(|(v, _)| v.abs()).fold(f32::INFINITY, f32::min);
            let most_dropped = floats.iter().zip(&mask).filter(|(_, m)| **m == 0.0).map(|(v, _)| v.abs()).fold(0.0, f32::max);
            prop_assert!(most_dropped <= least_kept);
        }

        /// Every run keeps exactly n (a short one at most n), and the largest, along any axis.
        #[test]
        fn nm_masks_are_valid(rows in 1i64..5, len in 1i64..20, m in 2usize..10, n in 1usize..9, axis in 0usize..2, seed in 0u64..1000) {
            let n = n.min(m - 1);
            let shape = if axis == 1 { [rows, len] } else { [len, rows] };
            let weight = sinter_model::seeded(seed, |random| random.normal(&shape)).unwrap();
            let p = NmPattern { n, m, axis };
            let keep = nm_mask(&weight, p).unwrap();
            let (ks, vs) = (keep.movedim_int(axis as i64, -1).contiguous(), weight.movedim_int(axis as i64, -1).contiguous());
            let (ks, vs) = (to_f32s(&ks).unwrap(), to_f32s(&vs).unwrap());
            for (k, v) in ks.chunks(len as usize).zip(vs.chunks(len as usize)) {
                for (run, value) in k.chunks(m).zip(v.chunks(m)) {
                    prop_assert_eq!(run.iter().sum::<f32>() as usize, n.min(run.len()));
                    let kept = run.iter().zip(value).filter(|(k, _)| **k == 1.0).map(|(_, v)| v.abs()).fold(f32::INFINITY, f32::min);
                    let lost = run.iter().zip(value).filter(|(k, _)| **k == 0.0).map(|(_, v)| v.abs()).fold(0.0, f32::max);
                    prop_assert!(lost <= kept);
                }
            }
            let mask = Mask::new(&keep, Some(p)).unwrap();
            prop_assert_eq!(mask.broken(&mask.apply(&weight).unwrap()).unwrap(), None);
        }
    }
}
