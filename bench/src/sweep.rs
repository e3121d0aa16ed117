//! Samplers of recipes beside Optuna's: the same functions, trials and number of seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use sinter_sweep::pareto::{Outcome, hypervolume};
use sinter_sweep::{Asked, Chooser, Domain, Point, Sampler, Space, State, Store, Taken, Trial, next};

use crate::table::Table;

type Recipe = BTreeMap<String, String>;
type Function = Box<dyn Fn(&Recipe) -> Vec<f64>>;

/// A function to be made small, or two.
struct Problem {
    name: &'static str,
    space: Space,
    function: Function,
    trials: u64,
    /// Of several figures: up to where volume counts.
    reference: Option<Vec<f64>>,
}

/// What one search found: the smallest value, or the area above the front, negative.
#[derive(Debug, Deserialize)]
struct Found {
    problem: String,
    sampler: String,
    score: f64,
    /// Of one trial.
    seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Theirs {
    optuna: String,
    found: Vec<Found>,
}

/// A row of the stored table: a recipe of LeNet-5 and what came of it.
#[derive(Debug, Deserialize)]
struct Stored {
    sparsity: String,
    cluster: String,
    centroids: String,
    weights: String,
    quality: f64,
    packed: f64,
}

const SAMPLERS: [&str; 6] = ["random", "sobol", "tpe", "nsga2", "nsga3", "cmaes"];

pub fn run(python: &Path, script: &Path, table: &Path, seeds: u64) -> Result<(), Box<dyn std::error::Error>> {
    let problems = problems(table)?;
    let mut ours = Vec::new();
    for problem in &problems {
        for name in SAMPLERS {
            let sampler: Sampler = serde_yaml::from_str(name)?;
            let fits = match name {
                "nsga2" => problem.reference.is_some(),
                "nsga3" => problem.reference.as_ref().is_some_and(|r| r.len() > 2),
                "cmaes" => problem.reference.is_none() && sampler.kind().unfit(&problem.space).is_none(),
                _ => true,
            };
            if !fits {
                continue;
            }
            ours.extend((0..seeds).map(|seed| search(problem, name, &sampler, seed)));
        }
    }
    let output =
        std::process::Command::new(python).arg("-W").arg("ignore").arg(script).arg(table).arg(seeds.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let theirs: Theirs = serde_json::from_slice(&output.stdout)?;
    let title = format!("Samplers, {seeds} seeds: mean and standard error; the smaller the better (Optuna {})", theirs.optuna);
    let mut lines =
        Table::new(&title, &["function", "sampler", "ours", "Optuna's", "ours is", "ms a trial, ours", "Optuna's", "ratio"]);
    for problem in &problems {
        for name in SAMPLERS {
            let of = |all: &[Found]| -> Vec<(f64, f64)> {
                let own = all.iter().filter(|f| f.problem == problem.name && f.sampler == name);
                own.map(|f| (f.score, f.seconds)).collect()
            };
            let (mine, other) = (of(&ours), of(&theirs.found));
            if mine.is_empty() || other.is_empty() {
                continue;
            }
            let ((a, ea), (b, eb)) = (mean(mine.iter().map(|f| f.0)), mean(other.iter().map(|f| f.0)));
            let noise = 2.0 * (ea * ea + eb * eb).sqrt();
            let verdict = match a - b {
                d if d < -noise => "better",
                d if d > noise => "worse",
                _ => "the same within noise",
            };
            let (ta, tb) = (mean(mine.iter().map(|f| f.1)).0 * 1e3, mean(other.iter().map(|f| f.1)).0 * 1e3);
            lines.row(&[
                format!("{} ({} trials)", problem.name, problem.trials),
                name.into(),
                format!("{a:.4} ± {ea:.4}"),
                format!("{b:.4} ± {eb:.4}"),
                verdict.into(),
                format!("{ta:.3}"),
                format!("{tb:.3}"),
                format!("1 / {:.0}", tb / ta),
            ]);
        }
    }
    lines.print();
    simulate(&problems[3], 10_000)
}

/// A sweep of so many trials whose recipes cost nothing: what the store and the choice cost as they grow.
fn simulate(problem: &Problem, trials: usize) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sweep.db");
    let title = format!("A simulated sweep of {trials} trials, with two figures and five keys");
    let mut lines =
        Table::new(&title, &["sampler", "trials", "ms a trial, the last thousand", "store, bytes a trial", "memory, MiB"]);
    for name in ["tpe", "random"] {
        let sampler: Sampler = serde_yaml::from_str(name)?;
        let mut chooser = Chooser::new(&problem.space, &sampler, 1, trials);
        let _fresh = std::fs::remove_file(&path);
        let mut store = Store::open(&path)?;
        let outcome = |trial: &Trial| {
            let losses = ["a", "b"].iter().map(|name| trial.figures.get(*name).copied()).collect::<Option<Vec<f64>>>()?;
            Some(Outcome { losses, violation: 0.0 })
        };
        let mut started = Instant::now();
        for number in 1..=trials {
            let taken =
                store.take("bench", std::time::Duration::from_secs(60), &|_| true, &mut |all| chooser.choose(all, &outcome))?;
            let Some(trial) = taken else { break };
            let losses = (problem.function)(&trial.recipe);
            let figures = BTreeMap::from([("a".to_string(), losses[0]), ("b".to_string(), losses[1])]);
            store.end((trial.id, "bench"), State::Done, (&figures, 0.0), "")?;
            if number == 1000 || number == trials / 2 || number == trials {
                let bytes: u64 = std::fs::read_dir(folder.path())?.flatten().map(|e| e.metadata().map_or(0, |m| m.len())).sum();
                let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
                let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|l| l.trim().split(' ').next());
                let memory = resident.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0;
                lines.row(&[
                    name.into(),
                    number.to_string(),
                    format!("{:.2}", started.elapsed().as_secs_f64()),
                    format!("{:.0}", bytes as f64 / number as f64),
                    format!("{memory:.0}"),
                ]);
            }
            if number % 1000 == 0 {
                started = Instant::now();
            }
        }
    }
    lines.print();
    Ok(())
}

/// Mean and standard error.
fn mean(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let all: Vec<f64> = values.collect();
    let n = all.len() as f64;
    let mean = all.iter().sum::<f64>() / n;
    let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}

fn search(problem: &Problem, name: &str, sampler: &Sampler, seed: u64) -> Found {
    let mut told: Vec<(Point, Outcome)> = Vec::new();
    let mut taken = Taken::default();
    let mut seconds = 0.0;
    for number in 0..problem.trials {
        let started = Instant::now();
        let asked = Asked { space: &problem.space, seed, number, told: &told, pending: &[], taken: &taken };
        let Some(point) = next(sampler, &asked) else { break };
        let values = problem.space.values(&point);
        let losses = (problem.function)(&values);
        taken.insert(&point);
        told.push((point, Outcome { losses, violation: 0.0 }));
        seconds += started.elapsed().as_secs_f64();
    }
    let score = match &problem.reference {
        Some(reference) => -hypervolume(&told.iter().map(|(_, o)| o.losses.clone()).collect::<Vec<_>>(), reference),
        None => told.iter().map(|(_, o)| o.losses[0]).fold(f64::INFINITY, f64::min),
    };
    Found { problem: problem.name.into(), sampler: name.into(), score, seconds: seconds / problem.trials as f64 }
}

fn problems(table: &Path) -> Result<Vec<Problem>, Box<dyn std::error::Error>> {
    let space = |yaml: &str| -> Result<Space, Box<dyn std::error::Error>> {
        let domains: BTreeMap<String, Domain> = serde_yaml::from_str(yaml)?;
        Ok(Space::new(&domains)?)
    };
    let axes = |count: usize, low: f64, high: f64| -> String {
        let each: Vec<String> = (0..count).map(|i| format!("x{i}: {{ from: {low:?}, to: {high:?} }}")).collect();
        format!("{{ {} }}", each.join(", "))
    };
    let mut reader = csv::Reader::from_path(table)?;
    let stored: Vec<Stored> = reader.deserialize().collect::<Result<_, _>>()?;
    let lenet5 = move |recipe: &Recipe| {
        let get = |key: &str| recipe.get(key).map_or("", String::as_str);
        let is = |s: &&Stored| {
            (s.sparsity.as_str(), s.cluster.as_str(), s.centroids.as_str(), s.weights.as_str())
                == (get("sparsity"), get("stages.cluster"), get("stages.cluster.centroids"), get("weights"))
        };
        stored.iter().find(is).map_or(vec![f64::NAN; 2], |s| vec![1.0 - s.quality, s.packed / 1e5])
    };
    let recipes = "{ sparsity: [60%, 75%, 85%, 90%, 95%], stages.cluster: [on, off], stages.cluster.centroids: [8, 16, 32], \
                   weights: [int8/channel, int4/channel] }";
    let mixed =
        "{ x: { from: 0.0, to: 1.0 }, lr: { from: 1e-5, to: 1e-1, log: true }, kind: [a, b, c, d], wide: { from: 1, to: 8 } }";
    let plain = |name, space, function: Function, trials| Problem { name, space, function, trials, reference: None };
    Ok(vec![
        plain("bowl", space(mixed)?, Box::new(bowl), 60),
        plain("hartmann6", space(&axes(6, 0.0, 1.0))?, Box::new(hartmann), 120),
        plain("rosenbrock4", space(&axes(4, -2.0, 2.0))?, Box::new(rosenbrock), 120),
        Problem { reference: Some(vec![1.1, 7.0]), ..plain("zdt1", space(&axes(5, 0.0, 1.0))?, Box::new(zdt1), 150) },
        Problem { reference: Some(vec![2.0; 3]), ..plain("dtlz2", space(&axes(7, 0.0, 1.0))?, Box::new(dtlz2), 200) },
        Problem { reference: Some(vec![0.2, 1.2]), ..plain("lenet5", space(recipes)?, Box::new(lenet5), 15) },
    ])
}

fn number(recipe: &Recipe, key: &str) -> f64 {
    recipe.get(key).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn numbers(recipe: &Recipe, count: usize) -> Vec<f64> {
    (0..count).map(|i| number(recipe, &format!("x{i}"))).collect()
}

/// A bowl with its bottom at 0.3 and 0.001, of the third kind, four wide.
fn bowl(recipe: &Recipe) -> Vec<f64> {
    let (x, lr, wide) = (number(recipe, "x") - 0.3, number(recipe, "lr").log10() + 3.0, number(recipe, "wide") - 4.0);
    let kind = if recipe.get("kind").is_some_and(|k| k == "c") { 0.0 } else { 0.3 };
    vec![4.0 * x * x + 0.25 * lr * lr + kind + 0.02 * wide * wide]
}

/// Hartmann's function of six variables (Dixon and Szegő, 1978), above its least value.
fn hartmann(recipe: &Recipe) -> Vec<f64> {
    const A: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
    const B: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ];
    let x = numbers(recipe, 6);
    let inner = |i: usize| -> f64 { (0..6).map(|j| B[i][j] * (x[j] - P[i][j]).powi(2)).sum() };
    vec![3.32237 - (0..4).map(|i| A[i] * (-inner(i)).exp()).sum::<f64>()]
}

/// Rosenbrock's valley (1960).
fn rosenbrock(recipe: &Recipe) -> Vec<f64> {
    let x = numbers(recipe, 4);
    vec![x.windows(2).map(|w| 100.0 * (w[1] - w[0] * w[0]).powi(2) + (1.0 - w[0]).powi(2)).sum()]
}

/// Three figures whose front is an eighth of a ball (DTLZ2; Deb et al., 2005).
fn dtlz2(recipe: &Recipe) -> Vec<f64> {
    let x = numbers(recipe, 7);
    let far = 1.0 + x[2..].iter().map(|x| (x - 0.5).powi(2)).sum::<f64>();
    let [a, b] = [x[0], x[1]].map(|x| x * std::f64::consts::FRAC_PI_2);
    vec![far * a.cos() * b.cos(), far * a.cos() * b.sin(), far * a.sin()]
}

/// Two figures that pull apart (ZDT1; Zitzler, Deb and Thiele, 2000).
fn zdt1(recipe: &Recipe) -> Vec<f64> {
    let x = numbers(recipe, 5);
    let far = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 4.0;
    vec![x[0], far * (1.0 - (x[0] / far).sqrt())]
}
