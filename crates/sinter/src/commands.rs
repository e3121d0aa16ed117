//! What each command does.

use std::io::Write;
use std::path::Path;

use miette::{GraphicalReportHandler, GraphicalTheme};
use sinter_export::{explicit, unpack};
use sinter_pipeline::{ConfigError, Plan, RunOptions, inspect, read_target};
use sinter_report::{RunRecord, find_runs, write_comparison, write_report};

use crate::args::{Args, Command, RunArgs};
use crate::terminal::Listener;

/// What to print and with which code to leave.
pub struct Failure {
    pub text: String,
    pub code: u8,
}

/// A failure of the input: nothing was written.
fn wrong(text: impl std::fmt::Display) -> Failure {
    Failure { text: format!("error: {text}"), code: 2 }
}

/// A failure while running.
fn failed(text: impl std::fmt::Display) -> Failure {
    Failure { text: format!("error: {text}"), code: 1 }
}

fn config(error: ConfigError) -> Failure {
    let theme = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_context_lines(1);
    if handler.render_report(&mut text, &error).is_err() {
        text = error.to_string();
    }
    let text = text.trim_end().trim_start_matches([' ', '×']);
    Failure { text: format!("error: {text}"), code: 2 }
}

pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Run(args) => run_pipeline(&args),
        Command::Check { pipeline } => {
            let plan = Plan::read(&pipeline, None).map_err(config)?;
            let stages: Vec<String> = (1..=plan.config.stages.len()).map(|i| plan.stage_name(i)).collect();
            say(&format!(
                "{} is fine: {} ({} parameters) on {} ({} / {} samples): {}",
                pipeline.display(),
                plan.model.name,
                plan.model.parameters(),
                plan.data.name,
                plan.data.train.len(),
                plan.data.test.len(),
                if stages.is_empty() { "no stage".into() } else { stages.join(", ") }
            ))
        }
        Command::Compare { runs, out } => {
            let records = find_runs(&runs).map_err(wrong)?;
            write_comparison(&records, &out).map_err(failed)?;
            say(&out.join("compare.html").display().to_string())
        }
        Command::Inspect { model, target, json } => {
            let target = target.map(|path| read_target(&path)).transpose().map_err(config)?;
            let found = inspect(&model, target.as_ref()).map_err(wrong)?;
            say(&if json { serde_json::to_string_pretty(&found).map_err(failed)? } else { found.to_string() })
        }
        Command::Report { run } => {
            let record = RunRecord::read(&run).map_err(wrong)?;
            write_report(&record, &run).map_err(failed)?;
            say(&run.join("report.html").display().to_string())
        }
        Command::Unpack { file, output } => unpack_file(&file, &output.unwrap_or_else(|| file.with_extension("onnx"))),
        Command::Operators => say(&sinter_model::supported_operators().join("\n")),
    }
}

/// Prints an answer. A reader that has seen enough (`| head`) is no failure.
fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(format!("could not print: {error}"))),
        _ => Ok(()),
    }
}

fn run_pipeline(args: &RunArgs) -> Result<(), Failure> {
    let plan = Plan::read(&args.pipeline, args.seed).map_err(config)?;
    let listener = Listener::new(args.quiet, args.json);
    let options = RunOptions { out: args.out.clone(), fresh: args.fresh, measure: args.measure };
    let outcome = plan.run(&options, &|event| listener.hear(&event)).map_err(failed)?;
    let missed: Vec<&str> = outcome.record.budget.iter().filter(|b| !b.met).map(|b| b.what.as_str()).collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure { text: format!("the budget is missed: {}", missed.join(", ")), code: 3 })
}

fn unpack_file(file: &Path, output: &Path) -> Result<(), Failure> {
    let bytes = std::fs::read(file).map_err(|e| wrong(format!("could not read {}: {e}", file.display())))?;
    let model = unpack(&bytes).map_err(|e| wrong(format!("{}: {e}", file.display())))?;
    explicit(&model).map_err(failed)?.save(output).map_err(failed)?;
    say(&output.display().to_string())
}
