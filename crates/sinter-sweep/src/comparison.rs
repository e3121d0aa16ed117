//! The trials of a sweep beside each other: one page with all that is known of them, whether the sweep is over or not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sinter_model::{Bytes, Joules, Macs, Seconds};
use sinter_report::{Cell, Column, Comparison, Kind, Row, Scale, Table};
use sinter_task::{Better, Metric};

use crate::config::{Figure, LOST};
use crate::finals::{Final, Finals};
use crate::search::Search;
use crate::store::{Store, StoreError};
use crate::trial::{State, Trial};

/// Where the page of a run's folder is, seen from the comparison's.
pub type Link<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// All trials, from the best on; those that did not come to their end follow.
pub fn compare(search: &Search, store: &Store, finals: Option<&Finals>, link: Link) -> Result<Comparison, StoreError> {
    let (trials, curves) = (store.trials()?, store.curves()?);
    let ranked = search.ranked(&trials);
    let known: BTreeSet<i64> = ranked.iter().map(|(_, t)| t.id).collect();
    let rest = trials.iter().filter(|t| search.holds(t) && !known.contains(&t.id));
    let order: Vec<(Option<usize>, &Trial)> =
        ranked.iter().map(|(rank, trial)| (Some(*rank), *trial)).chain(rest.map(|t| (None, t))).collect();
    let outside = trials.len() - order.len();
    let keys: BTreeSet<&String> = order.iter().flat_map(|(_, t)| t.recipe.keys()).collect();
    let one = search.config.objectives.len() == 1;
    let mut columns = vec![about("trial", "Trial", true), about("state", "State", true)];
    columns.extend(
        keys.iter().map(|key| Column { kind: Kind::Recipe, ..about(key, key.strip_prefix("stages.").unwrap_or(key), true) }),
    );
    columns.extend(Figure::ALL.iter().map(|figure| Column {
        kind: Kind::Figure,
        scale: scale(search, *figure),
        better: Some(if *figure == Figure::Quality { search.metric.better } else { Better::Lower }),
        ..about(figure.name(), &heading(search, *figure), shown(search, *figure))
    }));
    columns.push(Column { kind: Kind::Figure, scale: Scale::Metric(Metric::share(LOST)), ..about(LOST, "Lost", true) });
    columns.extend([about("front", "Front", !one), about("seconds", "Time", false), about("origin", "Chosen by", false)]);
    columns.extend([
        about("tries", "Tries", false),
        about("text", "What is to be said", order.iter().any(|(_, t)| !t.text.is_empty())),
    ]);
    let rows = order.iter().map(|(rank, trial)| row(search, *rank, trial, &keys, &curves, finals, link));
    let mut all = Comparison {
        title: format!("sweep {}", search.config.name),
        answer: answer(search, &order),
        rows: rows.collect(),
        columns,
        notes: notes(search, outside),
        tables: finals.map(|finals| tables(search, finals)).unwrap_or_default(),
        apart: None,
    };
    all.tidy();
    Ok(all)
}

fn about(key: &str, name: &str, shown: bool) -> Column {
    Column { key: key.into(), name: name.into(), kind: Kind::About, scale: Scale::Plain, better: None, shown }
}

fn scale(search: &Search, figure: Figure) -> Scale {
    match figure {
        Figure::Quality => Scale::Metric(search.metric.clone()),
        Figure::Packed | Figure::Flash | Figure::Ram => Scale::Bytes,
        Figure::Energy => Scale::Joules,
        Figure::Latency => Scale::Seconds,
        Figure::Macs | Figure::Nonzero => Scale::Plain,
    }
}

fn heading(search: &Search, figure: Figure) -> String {
    match figure {
        Figure::Quality => format!("{} on validation", search.metric.name),
        Figure::Packed => "Packed".into(),
        Figure::Flash => "Weights on a device".into(),
        Figure::Ram => "Activations, estimated".into(),
        Figure::Macs => "MACs".into(),
        Figure::Nonzero => "Not zero".into(),
        Figure::Energy => "Energy, estimated".into(),
        Figure::Latency => "Latency, estimated".into(),
    }
}

/// What counts, what has a limit, quality and size stand in the table from the beginning.
fn shown(search: &Search, figure: Figure) -> bool {
    let limits = &search.config.limits;
    search.config.objectives.contains(&figure)
        || match figure {
            Figure::Quality | Figure::Packed => true,
            Figure::Flash => limits.flash.is_some(),
            Figure::Ram => limits.ram.is_some(),
            Figure::Macs => limits.macs.is_some(),
            Figure::Energy => limits.energy.is_some(),
            Figure::Latency => limits.latency.is_some(),
            Figure::Nonzero => false,
        }
}

/// A figure as people read it.
pub fn text(search: &Search, figure: Figure, value: f64) -> String {
    match figure {
        Figure::Quality => search.metric.text(value),
        Figure::Packed | Figure::Flash | Figure::Ram => Bytes(value as u64).to_string(),
        Figure::Energy => Joules(value).to_string(),
        Figure::Latency => Seconds(value).to_string(),
        Figure::Macs => Macs(value as u64).to_string(),
        Figure::Nonzero => format!("{value}"),
    }
}

fn row(
    search: &Search,
    rank: Option<usize>,
    trial: &Trial,
    keys: &BTreeSet<&String>,
    curves: &BTreeMap<i64, Vec<(u64, f64)>>,
    finals: Option<&Finals>,
    link: Link,
) -> Row {
    let beyond = search.outcome(trial).is_some_and(|o| o.violation > 0.0);
    let state = if beyond { format!("{}, beyond the limits", trial.state.name()) } else { trial.state.name().into() };
    let name = format!("trial {}", trial.id);
    let mut cells = vec![Cell::text(&name), Cell::text(state)];
    cells.extend(keys.iter().map(|key| trial.recipe.get(*key).map_or_else(Cell::default, |v| Cell::of_recipe(v))));
    cells.extend(Figure::ALL.iter().map(|f| Cell::maybe(trial.figures.get(f.name()).copied(), |v| text(search, *f, v))));
    cells.push(Cell::maybe(trial.figures.get(LOST).copied(), |lost| format!("{:.2} %", lost * 100.0)));
    cells.push(Cell::text(if rank == Some(0) && !beyond { "on it" } else { "" }));
    cells.push(Cell::maybe(trial.seconds, |s| format!("{s:.1} s")));
    cells.extend([Cell::text(&trial.origin), Cell::number(trial.tries as f64, trial.tries.to_string()), Cell::text(&trial.text)]);
    // The store keeps scores, the larger the better: the score of a score is the value.
    let value = |(step, score): &(u64, f64)| (*step as f64, search.metric.score(*score));
    let points = curves.get(&trial.id).map(|points| points.iter().map(value).collect::<Vec<_>>());
    let curve = points.filter(|p| !p.is_empty()).map(|points| (format!("{} on validation", search.metric.name), points));
    let of_final = finals.and_then(|f| f.finals.iter().find(|f| f.trial.id == trial.id)).and_then(|f| f.runs.first());
    Row {
        name,
        link: of_final.and_then(|run| link(Path::new(&run.folder))),
        cells,
        curves: curve.into_iter().collect(),
        details: None,
    }
}

fn answer(search: &Search, order: &[(Option<usize>, &Trial)]) -> String {
    let count = |state: State| order.iter().filter(|(_, t)| t.state == state).count();
    let over = order.iter().filter(|(_, t)| t.state.is_final()).count();
    let mut text = format!("{over} of {} recipes tried", search.config.trials);
    for (state, word) in [(State::Stopped, "stopped early"), (State::Failed, "failed"), (State::Running, "running")] {
        if count(state) > 0 {
            text += &format!(", {} {word}", count(state));
        }
    }
    let best = order.iter().find(|(rank, t)| *rank == Some(0) && search.outcome(t).is_some_and(|o| o.violation == 0.0));
    let Some((_, best)) = best else { return text };
    let figures = search.config.objectives.iter().filter_map(|f| Some(text_of(search, *f, *best.figures.get(f.name())?)));
    let figures = figures.collect::<Vec<_>>().join(", ");
    match search.config.objectives.len() {
        1 => format!("{text}: trial {} is the best ({figures})", best.id),
        _ => {
            let front = order.iter().filter(|(rank, _)| *rank == Some(0)).count();
            format!("{text}: {front} on the front, trial {} first ({figures})", best.id)
        }
    }
}

/// A figure with its name, where its text does not tell it.
fn text_of(search: &Search, figure: Figure, value: f64) -> String {
    match figure {
        Figure::Quality => format!("{} {}", search.metric.name, text(search, figure, value)),
        _ => format!("{} {}", figure.name(), text(search, figure, value)),
    }
}

fn notes(search: &Search, outside: usize) -> Vec<String> {
    let counts = search.config.objectives.iter().map(|f| f.name()).collect::<Vec<_>>().join(" and ");
    let mut notes = vec![format!(
        "Trials stand from the best on, by {counts} of the validation split; those that did not come to their end follow. The test split was not looked at to choose."
    )];
    if outside > 0 {
        notes.push(format!("{outside} trials of another space are kept apart: `sinter sweep export` has them."));
    }
    notes
}

/// The finalists on the test split, and which of them differ.
fn tables(search: &Search, finals: &Finals) -> Vec<Table> {
    if finals.finals.is_empty() {
        return vec![];
    }
    let metric = &search.metric;
    let texts = |all: &[&str]| all.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    let of = |each: &Final| {
        let (least, most) = each.spread();
        vec![
            format!("trial {}", each.trial.id),
            metric.text(each.mean()),
            format!("{} to {}", metric.text(least), metric.text(most)),
            Bytes(each.packed()).to_string(),
            each.trial.words(),
            each.runs.iter().map(|r| r.folder.as_str()).collect::<Vec<_>>().join(", "),
        ]
    };
    let versus = finals.versus.iter().map(|v| {
        let (a, b) = v.trials;
        let verdict = match (v.p < crate::finals::LEVEL, v.lost > 0.0) {
            (true, true) => format!("{b} is truly worse"),
            (true, false) => format!("{b} is truly better"),
            (false, _) => "can't be told apart".into(),
        };
        vec![
            format!("trial {a}, then trial {b}"),
            metric.loss_text(finals.mean(a), finals.mean(b)),
            format!("{:.3}", v.p),
            verdict,
        ]
    });
    let seeds = search.config.finalists.seeds;
    let mut tables = vec![Table {
        title: "Finalists, on the test split".into(),
        head: texts(&["Trial", &format!("{}, mean", metric.name), "Least and most", "Packed, at most", "Recipe", "Runs"]),
        rows: finals.finals.iter().map(of).collect(),
        note: format!(
            "Each in full with {seeds} seeds. Chosen by the validation split, so what the test split says of them is fair."
        ),
    }];
    if !finals.versus.is_empty() {
        tables.push(Table {
            title: "Which finalists truly differ".into(),
            head: texts(&["Pair", "From the first to the second", "p", "Verdict"]),
            rows: versus.collect(),
            note: "Paired, sample by sample, on the test split (bootstrap); the least certain of all seeds, corrected for the number of pairs (Holm, 1979).".into(),
        });
    }
    tables
}
