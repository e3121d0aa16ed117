//! Samplers on functions whose best point is known.

use std::collections::BTreeMap;

use sinter_sweep::pareto::{Outcome, hypervolume};
use sinter_sweep::{Asked, Domain, Point, Sampler, Space, Taken, next};

fn space(yaml: &str) -> Space {
    let domains: BTreeMap<String, Domain> = serde_yaml::from_str(yaml).unwrap();
    Space::new(&domains).unwrap()
}

fn sampler(yaml: &str) -> Sampler {
    serde_yaml::from_str(yaml).unwrap()
}

fn taken(told: &[(Point, Outcome)]) -> Taken {
    let mut taken = Taken::default();
    told.iter().for_each(|(point, _)| taken.insert(point));
    taken
}

/// Tries so many points; gives all of them with what came of them.
fn tried(
    space: &Space,
    sampler: &Sampler,
    seed: u64,
    trials: usize,
    losses: impl Fn(&BTreeMap<String, String>) -> Vec<f64>,
) -> Vec<(Point, Outcome)> {
    let mut told: Vec<(Point, Outcome)> = Vec::new();
    for number in 0..trials as u64 {
        let taken = taken(&told);
        let asked = Asked { space, seed, number, told: &told, pending: &[], taken: &taken };
        let Some(point) = next(sampler, &asked) else { break };
        assert!(!taken.contains(&point), "a point came twice");
        // What is written is what is tried.
        let values = space.values(&point);
        let point = space.point(&values).unwrap_or_else(|| panic!("{values:?} is outside of the space that it came from"));
        told.push((point, Outcome { losses: losses(&values), violation: 0.0 }));
    }
    told
}

fn number(values: &BTreeMap<String, String>, key: &str) -> f64 {
    let text = &values[key];
    text.strip_suffix('%').map_or_else(|| text.parse().unwrap(), |t| t.parse::<f64>().unwrap() / 100.0)
}

/// A bowl with its bottom at x = 0.3, lr = 0.001, of the right kind, four wide.
const MIXED: &str =
    "{ x: { from: 0%, to: 100% }, lr: { from: 1e-5, to: 1e-1, log: true }, kind: [a, b, c, d], wide: { from: 1, to: 8 } }";

fn bowl(values: &BTreeMap<String, String>) -> Vec<f64> {
    let x = number(values, "x") - 0.3;
    let lr = number(values, "lr").log10() + 3.0;
    let kind = if values["kind"] == "c" { 0.0 } else { 0.3 };
    let wide = number(values, "wide") - 4.0;
    vec![x * x * 4.0 + lr * lr * 0.25 + kind + wide * wide * 0.02]
}

fn best(told: &[(Point, Outcome)]) -> f64 {
    told.iter().map(|(_, o)| o.losses[0]).fold(f64::INFINITY, f64::min)
}

fn mean_best(sampler: &Sampler, trials: usize) -> f64 {
    let space = space(MIXED);
    (0..10).map(|seed| best(&tried(&space, sampler, seed, trials, bowl))).sum::<f64>() / 10.0
}

#[test]
fn what_learns_finds_more_than_chance() {
    let random = mean_best(&sampler("random"), 60);
    let (tpe, nsga2) = (mean_best(&sampler("tpe"), 60), mean_best(&sampler("nsga2: { population: 12 }"), 60));
    assert!(tpe < 0.4 * random, "{tpe} against {random}");
    assert!(nsga2 < 0.8 * random, "{nsga2} against {random}");
    assert!(tpe < 0.05, "{tpe}");
}

/// Three figures that pull apart, on the front that is an eighth of a ball (DTLZ2; Deb et al., 2005): directions keep recipes apart.
#[test]
fn fronts_of_three_figures_are_found() {
    let axes: Vec<String> = (0..5).map(|i| format!("x{i}: {{ from: 0.0, to: 1.0 }}")).collect();
    let space = space(&format!("{{ {} }}", axes.join(", ")));
    let losses = |v: &BTreeMap<String, String>| {
        let x: Vec<f64> = (0..5).map(|i| number(v, &format!("x{i}"))).collect();
        let far = 1.0 + x[2..].iter().map(|x| (x - 0.5).powi(2)).sum::<f64>();
        let [a, b] = [x[0], x[1]].map(|x| x * std::f64::consts::FRAC_PI_2);
        vec![far * a.cos() * b.cos(), far * a.cos() * b.sin(), far * a.sin()]
    };
    let volume = |name: &str| -> f64 {
        let each = (0..4).map(|seed| {
            let told = tried(&space, &sampler(name), seed, 200, losses);
            hypervolume(&told.iter().map(|(_, o)| o.losses.clone()).collect::<Vec<_>>(), &[2.0, 2.0, 2.0])
        });
        each.sum::<f64>() / 4.0
    };
    let (random, nsga2, nsga3, tpe) = (volume("random"), volume("nsga2"), volume("nsga3"), volume("tpe"));
    assert!(nsga3 > random && nsga3 > nsga2 - 0.05 && tpe > random, "{nsga3} and {tpe} against {nsga2} and {random}");
}

/// A valley that winds through four ranges: what learns how they hang together comes further down it.
#[test]
fn ranges_that_hang_together_are_learnt() {
    let axes: Vec<String> = (0..4).map(|i| format!("x{i}: {{ from: -2.0, to: 2.0 }}")).collect();
    let space = space(&format!("{{ {} }}", axes.join(", ")));
    let valley = |v: &BTreeMap<String, String>| {
        let x: Vec<f64> = (0..4).map(|i| number(v, &format!("x{i}"))).collect();
        vec![x.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum()]
    };
    let found = |name: &str| (0..6).map(|seed| best(&tried(&space, &sampler(name), seed, 250, valley))).sum::<f64>() / 6.0;
    let (random, cmaes) = (found("random"), found("cmaes"));
    assert!(cmaes < 0.3 * random, "{cmaes} against {random}");
    assert!(sampler("cmaes").kind().unfit(&space).is_none());
    let choices: BTreeMap<String, Domain> = serde_yaml::from_str("{ a: [1, 2], b: { from: 0, to: 9 } }").unwrap();
    assert!(sampler("cmaes").kind().unfit(&Space::new(&choices).unwrap()).unwrap().contains("`a` has choices"));
}

/// Two figures that pull apart: the front is known, and half of the area is below it.
#[test]
fn fronts_are_found() {
    let space = space("{ x: { from: 0.0, to: 1.0 }, y: { from: 0.0, to: 1.0 }, z: { from: 0.0, to: 1.0 } }");
    let losses = |v: &BTreeMap<String, String>| {
        let (x, far) = (number(v, "x"), 1.0 + 3.0 * (number(v, "y") + number(v, "z")));
        vec![x, far * (1.0 - (x / far).sqrt())]
    };
    let area = |sampler: &Sampler| -> f64 {
        let each = (0..6).map(|seed| {
            let told = tried(&space, sampler, seed, 120, losses);
            hypervolume(&told.iter().map(|(_, o)| o.losses.clone()).collect::<Vec<_>>(), &[1.1, 4.0])
        });
        each.sum::<f64>() / 6.0
    };
    let (random, tpe, nsga2) = (area(&sampler("random")), area(&sampler("tpe")), area(&sampler("nsga2")));
    assert!(tpe > random && nsga2 > random, "{tpe} and {nsga2} against {random}");
}

#[test]
fn a_grid_and_small_spaces_end() {
    let space = space("{ stages.cluster: [on, off], stages.cluster.centroids: [8, 16, 32], bits: { from: 2, to: 8, step: 2 } }");
    for name in ["grid", "random", "tpe", "nsga2", "nsga3", "sobol"] {
        let told = tried(&space, &sampler(name), 3, 100, |v| vec![number(v, "bits")]);
        // Three codebooks or none, four widths.
        assert_eq!(told.len(), 4 * 4, "{name}");
        assert!(told.iter().all(|(p, _)| p.len() == 3), "{name}");
    }
}

/// Steps that no binary number holds exactly, narrow ranges, and ends that rounding would leave: every value comes once, and none lies outside.
#[test]
fn what_is_written_is_read_again() {
    for (yaml, count) in [
        ("{ x: { from: 40%, to: 95%, step: 5% } }", 12),
        ("{ x: { from: 0.1, to: 0.9, step: 0.1 } }", 9),
        ("{ x: { from: 0.01, to: 0.1, step: 0.01 } }", 10),
        ("{ x: { from: -3, to: 3 } }", 7),
        ("{ x: { from: 1, to: 1000, step: 7 } }", 143),
    ] {
        for name in ["grid", "random", "tpe", "nsga2", "nsga3", "sobol", "cmaes"] {
            assert_eq!(tried(&space(yaml), &sampler(name), 1, 200, |v| vec![number(v, "x")]).len(), count, "{yaml}: {name}");
        }
    }
    for (yaml, low, high) in [
        ("{ x: { from: 0.12345, to: 0.12346 } }", 0.12345, 0.12346),
        ("{ x: { from: 0.9, to: 0.99999 } }", 0.9, 0.99999),
        ("{ x: { from: 0.9, to: 0.99999, log: true } }", 0.9, 0.99999),
        ("{ x: { from: 99.90%, to: 99.95% } }", 0.999, 0.9995),
        ("{ x: { from: -1e-7, to: 1e-7 } }", -1e-7, 1e-7),
        ("{ x: { from: 1e-30, to: 1e30, log: true } }", 1e-30, 1e30),
    ] {
        for name in ["random", "tpe", "sobol", "cmaes"] {
            let told = tried(&space(yaml), &sampler(name), 1, 60, |v| vec![number(v, "x")]);
            assert_eq!(told.len(), 60, "{yaml}: {name}");
            let slack = 1e-12 * (high - low);
            assert!(told.iter().all(|(_, o)| (low - slack..=high + slack).contains(&o.losses[0])), "{yaml}: {name}");
        }
    }
}

/// A stage that is off has one recipe; a sampler that likes it goes on beside it.
#[test]
fn one_good_recipe_does_not_end_a_sweep() {
    let space = space("{ stages.prune: [on, off], stages.prune.sparsity: { from: 85%, to: 99% } }");
    for name in ["tpe", "sobol", "random", "nsga2", "nsga3"] {
        let told = tried(&space, &sampler(name), 1, 40, |v| {
            vec![v.get("stages.prune.sparsity").map_or(0.0, |_| 1.0 + number(v, "stages.prune.sparsity"))]
        });
        assert_eq!(told.len(), 40, "{name}");
    }
}

/// The same seed and history give the same point: a sweep that was stopped goes on as it would have.
#[test]
fn what_comes_next_follows_from_what_was() {
    let (mixed, ranges) = (space(MIXED), space("{ x: { from: 0%, to: 100% }, lr: { from: 1e-5, to: 1e-1, log: true } }"));
    for name in ["random", "sobol", "tpe", "nsga2", "nsga3", "cmaes"] {
        let space = if name == "cmaes" { &ranges } else { &mixed };
        let bowl = |v: &BTreeMap<String, String>| match name {
            "cmaes" => vec![(number(v, "x") - 0.3).powi(2) + (number(v, "lr").log10() + 3.0).powi(2)],
            _ => bowl(v),
        };
        let all = tried(space, &sampler(name), 9, 40, bowl);
        let half = &all[..30];
        let taken = taken(half);
        let asked = Asked { space, seed: 9, number: 30, told: half, pending: &[], taken: &taken };
        let again = next(&sampler(name), &asked).unwrap();
        assert_eq!(space.values(&again), space.values(&all[30].0), "{name}");
    }
}

/// Sobol's points are even: each half, quarter and eighth of an axis gets its share.
#[test]
fn sobol_is_even() {
    let space = space("{ x: { from: 0.0, to: 1.0 }, y: { from: 0.0, to: 1.0 } }");
    let told = tried(&space, &sampler("sobol"), 1, 64, |v| vec![number(v, "x"), number(v, "y")]);
    for axis in 0..2 {
        for part in 0..8 {
            let inside = |(_, o): &&(Point, Outcome)| (o.losses[axis] * 8.0).floor().min(7.0) as i32 == part;
            let count = told.iter().filter(inside).count();
            assert!((7..=9).contains(&count), "{count} of 64 in part {part} of axis {axis}");
        }
    }
}

#[test]
fn wrong_spaces_say_what_is_wrong() {
    let fault = |yaml: &str| {
        let domains: BTreeMap<String, Domain> = serde_yaml::from_str(yaml).unwrap();
        let error = Space::new(&domains).unwrap_err();
        (error.key.clone(), error.to_string())
    };
    for (yaml, key, text) in [
        ("{}", "", "nothing is varied"),
        ("{ a: [] }", "a", "nothing to choose"),
        ("{ a: [1, 1] }", "a", "twice"),
        ("{ a: { from: 5, to: 2 } }", "a", "holds nothing"),
        ("{ a: { from: 10%, to: 0.5 } }", "a", "share"),
        ("{ a: { from: 0, to: 5, log: true } }", "a", "above 0"),
        ("{ a: { from: 0, to: 5, step: 9 } }", "a", "do not fit"),
        ("{ a: { from: x, to: 5 } }", "a", "no number"),
        ("{ a: { from: 0.0, to: 10.0, step: 50% } }", "a", "not both"),
        ("{ a: { from: 0, to: 10, step: 0.5 } }", "a", "are whole"),
        ("{ a: { from: 0, to: 1.0e20, step: 1 } }", "a", "more than a million"),
        ("{ a: { from: -9223372036854775808, to: 9223372036854775807 } }", "a", "more than a million"),
        ("{ a: { from: -1.0e308, to: 1.0e308 } }", "a", "too long"),
        ("{ seed: [1, 2] }", "seed", "can't be varied"),
        ("{ a: { choices: [1, 2], when: { b: 0.5 } }, b: { from: 0.0, to: 1.0 } }", "a", "any value of a range"),
        ("{ a: { choices: [1, 2], when: { b: 0.55 } }, b: { from: 0.0, to: 1.0, step: 0.1 } }", "a", "never is"),
        ("{ a: { choices: [1, 2], when: { b: 1 } } }", "a", "not varied"),
        ("{ a: { choices: [1, 2], when: { b: 7 } }, b: [1, 2] }", "a", "never is"),
        ("{ a: { choices: [1, 2], when: { b: 1 } }, b: { choices: [1, 2], when: { a: 1 } } }", "a", "itself"),
        ("{ stages.cluster: [8, 16] }", "stages.cluster", "`on` or `off`"),
    ] {
        let (found, said) = fault(yaml);
        assert!(found == key && said.contains(text), "{yaml}: {found}: {said}");
    }
}

/// What stands in a stage that is off is not there, and a whole stage is taken away as `--set` does it.
#[test]
fn recipes_are_changes_of_a_pipeline() {
    let space =
        space("{ stages.cluster: [on, off], stages.cluster.centroids: [8, 16], lr: { from: 1e-4, to: 1e-2, log: true } }");
    let recipe = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<BTreeMap<_, _>>();
    let off = recipe(&[("stages.cluster", "off"), ("lr", "0.001")]);
    let on = recipe(&[("stages.cluster", "on"), ("stages.cluster.centroids", "16"), ("lr", "0.001")]);
    assert_eq!(Space::changes(&off), ["lr=0.001", "stages.cluster=~"]);
    assert_eq!(Space::changes(&on), ["lr=0.001", "stages.cluster.centroids=16"]);
    for inside in [&off, &on] {
        assert_eq!(space.values(&space.point(inside).unwrap()), *inside);
    }
    for outside in [
        recipe(&[("stages.cluster", "off"), ("stages.cluster.centroids", "8"), ("lr", "0.001")]),
        recipe(&[("stages.cluster", "on"), ("lr", "0.001")]),
        recipe(&[("stages.cluster", "off"), ("lr", "0.5")]),
        recipe(&[("stages.cluster", "off"), ("lr", "0.001"), ("more", "1")]),
    ] {
        assert_eq!(space.point(&outside), None, "{outside:?}");
    }
}
