//! Which keys of a recipe a figure hangs on: permutation importance (Breiman, 2001) of a random forest, on rows that the forest has not seen.

use rayon::prelude::*;
use serde::Serialize;
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::{Comparison, Kind};

/// Of fewer rows nothing can be said.
const FEWEST: usize = 12;
/// Of more, so many are looked at, evenly spread.
const MOST: usize = 1_000;
/// Rows are parted into so many; each part is foretold from the others.
const FOLDS: usize = 5;
/// How often a column is shuffled in each part.
const SHUFFLES: usize = 5;
const TREES: usize = 60;

/// What a figure hangs on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Importance {
    /// The figure's column.
    pub figure: usize,
    /// The share of its variance that is foretold on rows that were not seen: below a half or so, the shares tell little.
    pub foretold: f64,
    /// Columns of the recipe, each with its share of the importance of all, from the greatest on.
    pub shares: Vec<(usize, f64)>,
}

/// For each figure that varies.
pub(super) fn of(all: &Comparison) -> Vec<Importance> {
    let of_kind = |kind: Kind| all.columns.iter().enumerate().filter(move |(_, c)| c.kind == kind);
    let keys: Vec<usize> = of_kind(Kind::Recipe).map(|(i, _)| i).collect();
    let figures: Vec<usize> = of_kind(Kind::Figure).filter(|(_, c)| c.better.is_some()).map(|(i, _)| i).collect();
    let encoded: Vec<Vec<f64>> = keys.iter().map(|&key| encode(all, key)).collect();
    figures.into_par_iter().filter_map(|figure| one(all, figure, &keys, &encoded)).collect()
}

/// A key's values as numbers: texts by their order, and what is missing below all others.
fn encode(all: &Comparison, column: usize) -> Vec<f64> {
    let cells = || all.rows.iter().map(|r| &r.cells[column]);
    if all.is_numeric(column) {
        let (low, high) =
            cells().filter_map(|c| c.value).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        return cells().map(|c| c.value.unwrap_or(low - (high - low).max(1.0))).collect();
    }
    let mut texts: Vec<&str> = cells().map(|c| c.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    cells().map(|c| texts.binary_search(&c.text.as_str()).unwrap_or(0) as f64).collect()
}

fn one(all: &Comparison, figure: usize, keys: &[usize], encoded: &[Vec<f64>]) -> Option<Importance> {
    let there: Vec<usize> = (0..all.rows.len()).filter(|&r| all.rows[r].cells[figure].value.is_some()).collect();
    let step = there.len().div_ceil(MOST).max(1);
    let mut rows: Vec<usize> = there.into_iter().step_by(step).collect();
    if rows.len() < FEWEST || keys.is_empty() {
        return None;
    }
    // Rows may stand from the best on: parts are drawn.
    let mut random = fastrand::Rng::with_seed(1);
    random.shuffle(&mut rows);
    let y: Vec<f64> = rows.iter().filter_map(|&r| all.rows[r].cells[figure].value).collect();
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let variance = y.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    if variance <= (1e-12 * mean).powi(2) * y.len() as f64 {
        return None;
    }
    // Trees ask how large numbers are, and not all metrics are of one size.
    let deviation = (variance / y.len() as f64).sqrt();
    let y: Vec<f64> = y.iter().map(|v| (v - mean) / deviation).collect();
    let x: Vec<Vec<f64>> = rows.iter().map(|&r| encoded.iter().map(|column| column[r]).collect()).collect();
    let mut worse = vec![0.0; keys.len()];
    let mut error = 0.0;
    for fold in 0..FOLDS {
        let (seen, unseen): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|i| i % FOLDS != fold);
        let pick = |of: &[usize]| of.iter().map(|&i| x[i].clone()).collect::<Vec<_>>();
        let own: Vec<f64> = seen.iter().map(|&i| y[i]).collect();
        let wanted: Vec<f64> = unseen.iter().map(|&i| y[i]).collect();
        let settings =
            RandomForestRegressorParameters::default().with_n_trees(TREES).with_m(keys.len().div_ceil(3).max(1)).with_seed(1);
        let forest = RandomForestRegressor::fit(&DenseMatrix::from_2d_vec(&pick(&seen)).ok()?, &own, settings).ok()?;
        let missed = |x: &Vec<Vec<f64>>| -> Option<f64> {
            let found = forest.predict(&DenseMatrix::from_2d_vec(x).ok()?).ok()?;
            Some(found.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum())
        };
        let held = pick(&unseen);
        let plain = missed(&held)?;
        error += plain;
        for (key, worse) in worse.iter_mut().enumerate() {
            for _ in 0..SHUFFLES {
                let mut order: Vec<usize> = (0..held.len()).collect();
                random.shuffle(&mut order);
                let mut shuffled = held.clone();
                order.iter().enumerate().for_each(|(to, &from)| shuffled[to][key] = held[from][key]);
                *worse += (missed(&shuffled)? - plain) / SHUFFLES as f64;
            }
        }
    }
    let sum: f64 = worse.iter().map(|w| w.max(0.0)).sum();
    let mut shares: Vec<(usize, f64)> =
        keys.iter().zip(&worse).map(|(&key, w)| (key, w.max(0.0) / sum.max(f64::MIN_POSITIVE))).collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    Some(Importance { figure, foretold: 1.0 - error / y.len() as f64, shares })
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Column, Row, Scale};
    use super::*;

    /// f = 4a + b and noise that nothing foretells, a and b even in 0..1: variances of 16 to 1.
    #[test]
    fn importance_goes_by_what_a_key_moves() {
        let mut random = fastrand::Rng::with_seed(7);
        let column = |key: &str, kind, better| Column {
            key: key.into(),
            name: key.into(),
            kind,
            scale: Scale::Plain,
            better,
            shown: true,
        };
        let columns = vec![
            column("a", Kind::Recipe, None),
            column("b", Kind::Recipe, None),
            column("nothing", Kind::Recipe, None),
            column("kind", Kind::Recipe, None),
            column("f", Kind::Figure, Some(sinter_task::Better::Lower)),
            column("g", Kind::Figure, Some(sinter_task::Better::Lower)),
        ];
        let row = |_| {
            let [a, b, c] = [(); 3].map(|()| random.f64());
            let kind = ["x", "y"][usize::from(random.bool())];
            let f = 4.0 * a + b;
            let g = 1e-6 * f64::from(u8::from(kind == "y"));
            let number = |v: f64| Cell::number(v, v.to_string());
            Row { cells: vec![number(a), number(b), number(c), Cell::text(kind), number(f), number(g)], ..Row::default() }
        };
        let all = Comparison { columns, rows: (0..200).map(row).collect(), ..Comparison::default() };
        let found = of(&all);
        let [f, g] = &found[..] else { panic!("{found:?}") };
        let share = |i: &Importance, key: usize| i.shares.iter().find(|(k, _)| *k == key).unwrap().1;
        assert!(f.foretold > 0.8, "{f:?}");
        assert!((share(f, 0) - 16.0 / 17.0).abs() < 0.06 && share(f, 1) > 0.01 && share(f, 2) < 0.02, "{f:?}");
        assert!(g.foretold > 0.99 && share(g, 3) > 0.99, "{g:?}");
        // Of a handful nothing is said.
        assert_eq!(of(&Comparison { rows: all.rows[..10].to_vec(), ..all }), []);
    }
}
