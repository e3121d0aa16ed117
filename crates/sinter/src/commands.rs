//! What each command does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use clap::CommandFactory;
use sinter_certify::Reference;
use sinter_export::{explicit, unpack};
use sinter_pipeline::{Changes, Interrupt, Plan, RunError, RunOptions, Schema, Store, inspect, read_target, schema, status};
use sinter_report::{RunRecord, find_runs, write_comparison, write_report};

use crate::answer::{Failure, config, failed, say, wrong};
use crate::args::{Args, Command, PipelineArgs, RunArgs};
use crate::signals;
use crate::terminal::Listener;
use crate::{cache, init, sweep};

impl PipelineArgs {
    fn read(&self) -> Result<Plan, Failure> {
        Plan::read(&self.pipeline, &Changes { seed: self.seed, set: self.set.clone() }).map_err(config)
    }
}

pub fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => init::run(&args),
        Command::Run(args) => run_pipeline(&args),
        Command::Plan { pipeline, json } => {
            let outline = pipeline.read()?.outline();
            say(&if json { serde_json::to_string_pretty(&outline).map_err(failed)? } else { outline.to_string() })
        }
        Command::Check { pipeline } => {
            let plan = pipeline.read()?;
            plan.notes.iter().try_for_each(|note| say(&format!("note: {note}")))?;
            let stages: Vec<String> = (1..=plan.config.stages.len()).map(|i| plan.stage_name(i)).collect();
            say(&format!(
                "{} is fine: {} ({} parameters) on {} ({} / {} samples): {}",
                pipeline.pipeline.display(),
                plan.model.name,
                plan.model.parameters(),
                plan.data.name,
                plan.data.train.len(),
                plan.data.test.len(),
                if stages.is_empty() { "no stage".into() } else { stages.join(", ") }
            ))
        }
        Command::Data { pipeline, output, samples, json } => {
            let plan = pipeline.read()?;
            let preview = plan.preview(&output, samples.clamp(1, 256)).map_err(failed)?;
            say(&if json { serde_json::to_string_pretty(&preview).map_err(failed)? } else { preview.to_string() })?;
            if json { Ok(()) } else { say(&output.display().to_string()) }
        }
        Command::Sweep(args) => sweep::run(&args),
        Command::Status { runs, json } => {
            if let Some(nowhere) = runs.iter().find(|run| !run.is_dir() && **run != Path::new("reports")) {
                return Err(wrong(format!("{} is no folder: name one of runs, such as reports", nowhere.display())));
            }
            let all = status(&runs);
            if json {
                return say(&serde_json::to_string_pretty(&all).map_err(failed)?);
            }
            let sweeps: Vec<sinter_sweep::Standing> =
                runs.iter().flat_map(|folder| sinter_sweep::Standing::all(folder)).collect();
            sweeps.iter().try_for_each(|sweep| say(&sweep.to_string()))?;
            let folders: Vec<String> = runs.iter().map(|r| r.display().to_string()).collect();
            match all.is_empty() && sweeps.is_empty() {
                true => say(&format!("no run in {}", folders.join(", "))),
                false => all.iter().try_for_each(|standing| say(&standing.to_string())),
            }
        }
        Command::Compare { runs, out } => {
            write_comparison(&find_runs(&runs).map_err(wrong)?, &out).map_err(failed)?;
            say(&out.join("compare.html").display().to_string())
        }
        Command::Serve { folder, port, host } => {
            let told = |address: SocketAddr| drop(say(&format!("http://{address}/ shows {}; Ctrl-C ends", folder.display())));
            sinter_serve::serve(&folder, SocketAddr::new(host, port), told).map_err(wrong)
        }
        Command::Inspect { model, target, dims, constants, json } => {
            let constants = constants.into_iter().map(|(name, number)| (name, vec![number])).collect();
            let options = sinter_onnx::Options { dims: dims.into_iter().collect(), constants, ..Default::default() };
            let target = target.map(|path| read_target(&path)).transpose().map_err(config)?;
            let found = inspect(&model, &options, target.as_ref()).map_err(wrong)?;
            say(&if json { serde_json::to_string_pretty(&found).map_err(failed)? } else { found.to_string() })
        }
        Command::Certify { model, inputs, float, dims, json } => {
            certify_file(&model, inputs.as_deref(), float.as_deref(), dims.into_iter().collect(), json)
        }
        Command::Report { run } => {
            let record = RunRecord::read(&run).map_err(wrong)?;
            write_report(&record, &run).map_err(failed)?;
            say(&run.join("report.html").display().to_string())
        }
        Command::Unpack { file, output } => unpack_file(&file, &output.unwrap_or_else(|| file.with_extension("onnx"))),
        Command::Operators { json } => operators(json),
        Command::Schema { of } => {
            let of = Schema::ALL.into_iter().find(|schema| schema.name() == of);
            say(&serde_json::to_string_pretty(&of.map_or_else(sinter_sweep::schema, schema)).map_err(failed)?)
        }
        Command::Cache { out, action } => cache::run(&Store::of_runs(&out), &action),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "sinter", &mut std::io::stdout());
            Ok(())
        }
        Command::Man { folder } => {
            let made = std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(Args::command(), &folder));
            made.map_err(|e| failed(format!("{}: {e}", folder.display())))?;
            say(&folder.display().to_string())
        }
    }
}

fn certify_file(
    path: &Path,
    inputs: Option<&[f64]>,
    float: Option<&Path>,
    dims: BTreeMap<String, i64>,
    json: bool,
) -> Result<(), Failure> {
    let told = |e: &dyn std::fmt::Display| wrong(format!("{}: {e}", path.display()));
    let inputs = match inputs {
        Some(&[low, high]) if low.is_finite() && high.is_finite() && low < high => Some((low, high)),
        Some(_) => return Err(wrong("--inputs wants two finite numbers, the smaller first")),
        None => None,
    };
    let model = match path.extension().and_then(|e| e.to_str()) {
        Some("sinter") => {
            let bytes = std::fs::read(path).map_err(|e| told(&e))?;
            unpack(&bytes).map_err(|e| told(&e))?
        }
        Some("tflite") if float.is_some() => {
            return Err(wrong(
                "--float compares ONNX files: leave it out for a TFLite file, or certify the ONNX file of the same run",
            ));
        }
        Some("tflite") => sinter_tflite::load(path).map_err(|e| told(&e))?,
        _ => {
            let read = sinter_onnx::load(path, &sinter_onnx::Options { dims: dims.clone(), ..Default::default() })
                .map_err(|e| told(&e))?;
            sinter_certify::absorb(&read).map_err(|e| told(&e))?
        }
    };
    if model.activations.is_empty() {
        return Err(told(
            &"no value of the model is quantized: only what computes with integers can be certified. A pipeline with \
                          `quantize: { activations: int8 }` writes such a file, and a certificate with it",
        ));
    }
    let float = match float {
        Some(float) => {
            let read = sinter_onnx::load(float, &sinter_onnx::Options { apart: true, dims, ..Default::default() });
            Some(read.map_err(|e| wrong(format!("{}: {e}", float.display())))?)
        }
        None => None,
    };
    let reference = match &float {
        Some(model) => Reference::Float { model, name: "the float model".into() },
        None => Reference::Unrounded,
    };
    let certificate = sinter_certify::certify(&model, inputs, &[reference]).map_err(|e| told(&e))?;
    if json {
        say(&serde_json::to_string_pretty(&certificate).map_err(failed)?)?;
    } else {
        say(&certificate.to_string())?;
    }
    match certificate.never_wraps() {
        true => Ok(()),
        false => Err(Failure { text: "error: sums can wrap".into(), code: 1 }),
    }
}

/// The table that exporters ask too.
fn operators(json: bool) -> Result<(), Failure> {
    let all = sinter_export::device::support();
    if json {
        let rows: Vec<_> =
            all.iter().map(|o| serde_json::json!({ "operator": o.kind, "tflite": o.devices, "c": o.devices })).collect();
        return say(&serde_json::to_string_pretty(&rows).map_err(failed)?);
    }
    let width = all.iter().map(|o| o.kind.len()).max().unwrap_or(0);
    let lines = all.iter().map(|o| format!("{:<width$}  {}", o.kind, if o.devices { "ONNX  TFLite  C" } else { "ONNX" }));
    say(&lines.collect::<Vec<_>>().join("\n"))
}

fn run_pipeline(args: &RunArgs) -> Result<(), Failure> {
    let plan = args.pipeline.read()?;
    let listener = Listener::new(args.going.quiet, args.going.json);
    let interrupt = Interrupt::default();
    signals::end_well(args.out.clone(), interrupt.clone());
    let options = RunOptions {
        out: args.out.clone(),
        fresh: args.fresh,
        measure: args.measure,
        checkpoint_every: args.going.checkpoint_every,
        interrupt,
    };
    let outcome = plan.run(&options, &|event| listener.hear(&event)).map_err(|error| match error {
        RunError::Stopped { .. } => Failure { text: format!("{error}: {}", signals::kept(&args.out)), code: signals::code() },
        error => failed(error),
    })?;
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
