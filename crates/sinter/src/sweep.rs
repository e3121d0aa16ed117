//! What `sinter sweep` says.

use std::collections::BTreeMap;
use std::path::Path;

use sinter_model::Bytes;
use sinter_pipeline::Interrupt;
use sinter_report::link;
use sinter_sweep::{
    Command, Executor, ExecutorError, Figure, Finals, LOST, Said, State, Store, Sweep, SweepError, Trial, Working, compare,
    delegate, drive, finals, table, text, work,
};

use crate::answer::{Failure, config, failed, say, wrong};
use crate::args::{SweepAction, SweepArgs, SweepOf};
use crate::signals;
use crate::terminal::json_line;

pub fn run(args: &SweepArgs) -> Result<(), Failure> {
    match &args.action {
        None => sweep(args),
        Some(SweepAction::Status { of, json }) => {
            let (sweep, trials) = open(of)?;
            status(&sweep, &trials, *json)
        }
        Some(SweepAction::Best { of, json }) => {
            let (sweep, trials) = open(of)?;
            let finals = Finals::read(&sweep.folder());
            if *json {
                let ranked = sweep.search.ranked(&trials);
                let best: Vec<&Trial> = ranked.iter().filter(|(rank, _)| *rank == 0).map(|(_, t)| *t).collect();
                return say(
                    &serde_json::to_string_pretty(&serde_json::json!({ "best": best, "finals": finals })).map_err(failed)?
                );
            }
            say(&best(&sweep, &trials))?;
            let Some(finals) = finals.filter(|finals| !finals.finals.is_empty()) else { return Ok(()) };
            let now: Vec<i64> = sweep.search.finalists(&trials).iter().map(|t| t.id).collect();
            if !finals.finals.iter().all(|f| now.contains(&f.trial.id)) {
                say("of an earlier state of the sweep:")?;
            }
            say(&told(&sweep, &finals))
        }
        Some(SweepAction::Export { of, output }) => {
            if !output.extension().is_some_and(|e| e == "csv" || e == "parquet") {
                return Err(wrong(format!("{}: trials are written as .csv or .parquet", output.display())));
            }
            let (_, trials) = open(of)?;
            table(&trials, output).map_err(failed)?;
            say(&format!("{} ({} trials)", output.display(), trials.len()))
        }
        Some(SweepAction::Report { of }) => say(&report(&open(of)?.0)?),
        Some(SweepAction::Add { of, set }) => add(of, set),
    }
}

/// A sweep that was begun, and its trials.
fn open(of: &SweepOf) -> Result<(Sweep, Vec<Trial>), Failure> {
    let sweep = Sweep::read(&of.file, &of.out).map_err(config)?;
    let store = Store::existing(&sweep.store_path()).map_err(failed)?;
    let Some(store) = store else {
        let (file, folder) = (of.file.display(), sweep.folder().display().to_string());
        return Err(wrong(format!("nothing was tried yet in {folder}: `sinter sweep {file}` begins")));
    };
    let trials = store.trials().map_err(failed)?;
    Ok((sweep, trials))
}

fn add(of: &SweepOf, set: &[String]) -> Result<(), Failure> {
    let sweep = Sweep::read(&of.file, &of.out).map_err(config)?;
    let mut recipe = BTreeMap::new();
    for change in set {
        let (key, value) = change.split_once('=').ok_or_else(|| wrong(format!("`{change}` gives no value: write KEY=VALUE")))?;
        if recipe.insert(key.to_string(), value.to_string()).is_some() {
            return Err(wrong(format!("`{key}` stands there twice")));
        }
    }
    let Some(point) = sweep.search.space.point(&recipe) else {
        let each = sweep.search.space.parameters.iter().map(|p| format!("\n  {}: {}", p.key, p.values));
        return Err(wrong(format!(
            "this recipe is none of the sweep's space; it wants a value of each key that is there:{}",
            each.collect::<String>()
        )));
    };
    let values = sweep.search.space.values(&point);
    let between = |key: &&String| sweep.search.space.parameters.iter().any(|p| p.key == **key && !p.values.has(&recipe[*key]));
    if let Some(key) = recipe.keys().find(between) {
        return Err(wrong(format!("`{key}` is never {}; next to it lies {}", recipe[key], values[key])));
    }
    let mut store = Store::open(&sweep.store_path()).map_err(failed)?;
    let trials = store.trials().map_err(failed)?;
    if let Some(known) = trials.iter().find(|t| sweep.search.space.point(&t.recipe).as_ref() == Some(&point)) {
        return say(&format!("this recipe is trial {} ({})", known.id, known.state.name()));
    }
    let id = store.add("added", &values, sweep.search.config.seed).map_err(failed)?;
    say(&format!("trial {id} is tried next"))
}

fn sweep(args: &SweepArgs) -> Result<(), Failure> {
    let file = args.file.as_deref().unwrap_or(Path::new(""));
    let sweep = Sweep::read(file, &args.out).map_err(config)?;
    let interrupt = Interrupt::default();
    signals::end_well(args.out.clone(), interrupt.clone());
    let how = Working { interrupt: interrupt.clone(), checkpoint_every: args.going.checkpoint_every };
    let tell = |said: Said| {
        if args.going.quiet {
            return;
        }
        let line = if args.going.json { json_line(&said) } else { line(&sweep, &said) };
        // A reader that is gone does not stop a sweep.
        let _gone = say(&line);
    };
    let ended = |error: SweepError| match error {
        SweepError::Stopped => Failure { text: format!("stopped: {}", signals::kept(&args.out)), code: signals::code() },
        SweepError::Config(error) => config(error),
        SweepError::Executor(error @ (ExecutorError::Absent { .. } | ExecutorError::Refused { .. })) => wrong(error),
        error => failed(error),
    };
    if args.worker.is_some() {
        stop_with_parent(interrupt.clone());
    }
    let here = sweep.search.config.executor == Executor::default() && args.workers.get() == 1;
    let settle = || -> Result<Finals, Failure> {
        let finals = finals(&sweep, &how, &tell).map_err(ended)?;
        finals.write(&sweep.folder()).map_err(failed)?;
        Ok(finals)
    };
    match (args.worker.is_some(), args.finals) {
        (true, true) => return settle().map(drop),
        (true, false) => return work(&sweep, &how, &tell).map_err(ended),
        _ => {}
    }
    let others = if here { None } else { Some(workers(args, file, &sweep)?) };
    match &others {
        None => work(&sweep, &how, &tell).map_err(ended)?,
        Some(command) => drive(&sweep, command.clone(), &interrupt, &tell).map_err(ended)?,
    }
    let store = Store::open(&sweep.store_path()).map_err(failed)?;
    let trials = store.trials().map_err(failed)?;
    if !args.going.quiet && !args.going.json {
        say(&best(&sweep, &trials))?;
    }
    if sweep.search.config.finalists.count > 0 {
        let finals = match others.filter(|_| sweep.search.config.executor.kind().is_elsewhere()) {
            None => settle()?,
            Some(mut command) => {
                // Before the word that names the worker.
                command.words.insert(command.words.len() - 1, "--finals".into());
                delegate(&sweep, command, &interrupt, &tell).map_err(ended)?;
                Finals::read(&sweep.folder()).unwrap_or_default()
            }
        };
        if args.going.json {
            say(&serde_json::to_string(&serde_json::json!({ "event": "finals", "finals": finals })).map_err(failed)?)?;
        } else if !args.going.quiet && !finals.finals.is_empty() {
            say(&told(&sweep, &finals))?;
        }
    }
    let page = report(&sweep)?;
    if args.going.json || args.going.quiet { Ok(()) } else { say(&page) }
}

/// What every worker of a sweep is; they may run elsewhere, where the same folders are.
fn workers(args: &SweepArgs, file: &Path, sweep: &Sweep) -> Result<Command, Failure> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(failed);
    let text = |path: &Path| match absolute(path)?.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(wrong(format!(
            "{}: workers are told of paths in UTF-8 alone; give the file and the folder such names",
            path.display()
        ))),
    };
    let (file, out, memory) = (text(file)?, text(&args.out)?, sinter_model::memory_limit().0.to_string());
    let every = format!("{}s", args.going.checkpoint_every.as_secs());
    let words = ["--memory", &memory, "sweep", &file, "--out", &out, "--checkpoint-every", &every, "--worker"];
    Ok(Command {
        program: std::env::current_exe().map_err(failed)?,
        words: words.into_iter().map(String::from).collect(),
        folder: absolute(&sweep.folder().join("workers"))?,
        count: args.workers.get(),
        sweep: sweep.search.config.name.clone(),
    })
}

/// Writes the page of a sweep, as far as it is; tells where.
fn report(sweep: &Sweep) -> Result<String, Failure> {
    let folder = sweep.folder();
    let Some(store) = Store::existing(&sweep.store_path()).map_err(failed)? else { return Ok(String::new()) };
    let all = compare(&sweep.search, &store, Finals::read(&folder).as_ref(), &|run| link(&folder, run)).map_err(failed)?;
    all.write(&folder, "sweep").map_err(failed)?;
    Ok(folder.join("sweep.html").display().to_string())
}

/// A worker whose driver is gone ends well: nobody else would ask it to.
fn stop_with_parent(interrupt: Interrupt) {
    let parent = rustix::process::getppid();
    std::thread::spawn(move || {
        while rustix::process::getppid() == parent {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        interrupt.ask();
    });
}

fn status(sweep: &Sweep, trials: &[Trial], json: bool) -> Result<(), Failure> {
    let (inside, outside): (Vec<&Trial>, Vec<&Trial>) = trials.iter().partition(|t| sweep.search.holds(t));
    let (count, outside) = (|state: State| inside.iter().filter(|t| t.state == state).count(), outside.len());
    if json {
        let counts: BTreeMap<&str, usize> =
            [State::Done, State::Running, State::Waiting, State::Stopped, State::Failed].map(|s| (s.name(), count(s))).into();
        let all = serde_json::json!({ "sweep": sweep.search.config.name, "of": sweep.search.config.trials, "states": counts, "outside": outside, "trials": trials });
        return say(&serde_json::to_string_pretty(&all).map_err(failed)?);
    }
    let mut lines = vec![format!(
        "{}: {} of {} tried; {} done, {} stopped early, {} failed, {} running, {} waiting",
        sweep.search.config.name,
        inside.iter().filter(|t| t.state.is_final()).count(),
        sweep.search.config.trials,
        count(State::Done),
        count(State::Stopped),
        count(State::Failed),
        count(State::Running),
        count(State::Waiting)
    )];
    if outside > 0 {
        lines.push(format!("{outside} trials lie outside of the space as it is now, and are kept apart"));
    }
    let failures = inside.iter().filter(|t| t.state == State::Failed);
    lines.extend(failures.map(|t| format!("trial {} failed {} times: {}", t.id, t.tries, t.text)));
    say(&lines.join("\n"))
}

/// The figures that count, in words.
fn figures(sweep: &Sweep, trial: &Trial) -> String {
    let mut wanted = sweep.search.config.objectives.clone();
    for figure in [Figure::Quality, Figure::Packed] {
        if !wanted.contains(&figure) {
            wanted.push(figure);
        }
    }
    let each = wanted.iter().filter_map(|figure| {
        let told = text(&sweep.search, *figure, *trial.figures.get(figure.name())?);
        Some(match figure {
            Figure::Quality => format!("{} {told} on validation", sweep.search.metric.name),
            _ => format!("{} {told}", figure.name()),
        })
    });
    each.collect::<Vec<_>>().join(", ")
}

fn line(sweep: &Sweep, said: &Said) -> String {
    match said {
        Said::Begun { trial } => format!("▸ trial {} ({}): {}", trial.id, trial.origin, trial.words()),
        Said::Ended { trial, cached } => match trial.state {
            State::Done => {
                let seconds = trial.seconds.unwrap_or_default();
                let cached = cached.map_or_else(String::new, |(cached, of)| format!("{cached} of {of} stages from the cache, "));
                format!("✓ trial {}: {} ({cached}{seconds:.1} s)", trial.id, figures(sweep, trial))
            }
            State::Stopped => format!("– trial {}: {}", trial.id, trial.text),
            _ => format!("✗ trial {}: {}", trial.id, trial.text),
        },
        Said::Note { text } => text.clone(),
    }
}

/// The front, or the best recipes where one figure counts.
fn best(sweep: &Sweep, trials: &[Trial]) -> String {
    const MOST: usize = 12;
    let ranked = sweep.search.ranked(trials);
    let one = sweep.search.config.objectives.len() == 1;
    let mut shown: Vec<&Trial> = ranked.iter().filter(|(rank, _)| one || *rank == 0).map(|(_, t)| *t).take(MOST).collect();
    if !one {
        // Along the front.
        let first = |t: &Trial| sweep.search.outcome(t).map_or(f64::INFINITY, |o| o.losses[0]);
        shown.sort_by(|a, b| first(a).total_cmp(&first(b)));
    }
    let mut lines = vec![match (shown.is_empty(), one) {
        (true, _) => "no recipe came to its end".to_string(),
        (_, true) => "the best recipes, by the validation split:".to_string(),
        (_, false) => "recipes that no other is better than in all that counts, by the validation split:".to_string(),
    }];
    for trial in shown {
        let kept = sweep.search.outcome(trial).is_some_and(|o| o.violation == 0.0);
        let lost = trial.figures.get(LOST).map_or(String::new(), |lost| format!(", {:.2} % lost", lost * 100.0));
        let beyond = if kept { "" } else { ", beyond the limits" };
        lines.push(format!("  trial {:>3}: {}{lost}{beyond}\n             {}", trial.id, figures(sweep, trial), trial.words()));
    }
    lines.join("\n")
}

/// The finalists on the test split, and which of them differ.
fn told(sweep: &Sweep, finals: &Finals) -> String {
    let metric = &sweep.search.metric;
    let mut lines = vec![format!("finalists, on the test split ({} of each over their seeds):", metric.name)];
    for each in &finals.finals {
        let (least, most) = each.spread();
        lines.push(format!(
            "  trial {:>3}: {} ({} to {}), {} packed\n             {}",
            each.trial.id,
            metric.text(each.mean()),
            metric.text(least),
            metric.text(most),
            Bytes(each.packed()),
            each.runs.first().map_or("", |r| r.folder.as_str())
        ));
    }
    for v in &finals.versus {
        let (a, b) = v.trials;
        let text = metric.loss_text(finals.mean(a), finals.mean(b));
        lines.push(match (v.p < sinter_sweep::LEVEL, v.lost > 0.0) {
            (true, true) => format!("  {b} is truly worse than {a}: {text} (p = {:.3})", v.p),
            (true, false) => format!("  {b} is truly better than {a}: {text} (p = {:.3})", v.p),
            (false, _) => format!("  {a} and {b} can't be told apart (p = {:.2})", v.p),
        });
    }
    lines.join("\n")
}
