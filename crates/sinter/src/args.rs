//! What can be written on the command line.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand};
use sinter_model::Bytes;
use sinter_pipeline::{Goal, Schema};

/// Presses trained neural networks into small ones.
///
/// A pipeline is a YAML file that names a model, data and stages (train, prune, cluster, distill, quantize). `sinter run` does the stages,
/// measures what each did to size, accuracy, operations and energy, and leaves a report and files that real runtimes load.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed while running, 2 wrong input (nothing was written), 3 done, but the budget is missed, 130 and 143 stopped by Ctrl-C \
                  and by SIGTERM (the same command goes on)."
)]
pub struct Args {
    /// The most that one tensor, sample or file may take: `16 GiB`. What would take more is refused before memory is taken.
    #[arg(long, global = true, default_value = "8 GiB", value_name = "SIZE")]
    pub memory: Bytes,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a first pipeline for a model and its data: what the data is, what the model is asked to do, how values are scaled and which stages fit is found out by
    /// trying; on a terminal the rest is asked.
    Init(InitArgs),
    /// Run a pipeline; what an earlier run did is not done again.
    Run(RunArgs),
    /// Print what a pipeline comes to: every stage, pass and layer, and why one is left out. `run` does exactly that.
    Plan {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Check a pipeline and all that it names, without running it.
    Check {
        #[command(flatten)]
        pipeline: PipelineArgs,
    },
    /// Show a pipeline's data as its model sees it: how many of each class, how values lie in each channel, and some samples as a picture. The commonest error in
    /// this field is a wrong normalisation.
    Data {
        #[command(flatten)]
        pipeline: PipelineArgs,
        /// Where the picture goes.
        #[arg(short, long, default_value = "data.png")]
        output: PathBuf,
        /// How many samples it shows.
        #[arg(long, default_value_t = 16)]
        samples: usize,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Try many recipes of one pipeline, and compare the best. What was tried is not tried again: the same command goes on.
    Sweep(SweepArgs),
    /// Say where runs and sweeps stand: done, running, or stopped, at which stage and how far in it.
    Status {
        /// Folders of runs, or folders that hold such.
        #[arg(default_value = "reports")]
        runs: Vec<PathBuf>,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Write the same report for several runs side by side.
    Compare {
        /// Folders of runs (each holds a run.json), or folders that hold such.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where compare.html goes.
        #[arg(long, default_value = "reports/compare")]
        out: PathBuf,
    },
    /// Show runs and sweeps in the browser while they go on: what stands where, comparisons, reports. Read-only; ends with Ctrl-C.
    Serve {
        /// The folder of all runs.
        #[arg(default_value = "reports")]
        folder: PathBuf,
        /// The port; 0 takes one that is free.
        #[arg(long, default_value_t = 7040)]
        port: u16,
        /// The address. Anything but the default lets others on the network read all that is in the folder.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        host: IpAddr,
    },
    /// Print a model's layers, weights, multiply-accumulates and memory.
    Inspect {
        /// An ONNX file, or a packed file (.sinter).
        model: PathBuf,
        /// A target file, such as configs/targets/cortex-m4.yaml: what an inference costs there, and whether the model fits.
        #[arg(long)]
        target: Option<PathBuf>,
        /// The length of a free dimension, by its name or its place: `seq=128`, `ids.1=128`.
        #[arg(long = "dim", value_name = "NAME=LENGTH", value_parser = dimension)]
        dims: Vec<(String, i64)>,
        /// What an input always is: `sr=16000`.
        #[arg(long = "constant", value_name = "INPUT=NUMBER", value_parser = constant)]
        constants: Vec<(String, f64)>,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Say what holds of a quantized ONNX or TFLite file for every input: whether sums wrap, where kernels round otherwise, what may saturate. Exit code 1 where
    /// a sum can wrap.
    Certify {
        /// A quantized ONNX file, of QuantizeLinear and DequantizeLinear or of integer operators (QLinearConv, ...), or a TFLite file, whoever
        /// made it; or a packed file (.sinter).
        model: PathBuf,
        /// The range of each element of the inputs. Default: what the quantizers of the inputs hold.
        #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], allow_hyphen_values = true)]
        inputs: Option<Vec<f64>>,
        /// The float ONNX file that was quantized: how far the quantized one can be from it. Default: how far rounding alone can lead.
        #[arg(long)]
        float: Option<PathBuf>,
        /// The length of a free dimension, by its name or its place: `seq=128`, `ids.1=128`.
        #[arg(long = "dim", value_name = "NAME=LENGTH", value_parser = dimension)]
        dims: Vec<(String, i64)>,
        /// Print the whole certificate as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Draw the report of an old run again.
    Report {
        /// The run's folder.
        run: PathBuf,
    },
    /// Turn a packed file into ONNX.
    Unpack {
        /// The packed file.
        file: PathBuf,
        /// The file to write. Default: beside the packed file, with the ending .onnx.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// List the ONNX operators that models may use, and which have a place in TFLite and C.
    Operators {
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a kind of file, for editors.
    Schema {
        /// Of which files.
        #[arg(default_value = Schema::Pipeline.name(), value_parser = PossibleValuesParser::new(Schema::ALL.map(Schema::name).into_iter().chain([SWEEP])))]
        of: String,
    },
    /// Look after the results that runs keep.
    Cache {
        /// The folder of all runs.
        #[arg(long, default_value = "reports", global = true)]
        out: PathBuf,
        /// What to do.
        #[command(subcommand)]
        action: CacheAction,
    },
    /// Print completions for a shell.
    Completions {
        /// Whose.
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

/// The kind of files that `sinter sweep` reads.
pub const SWEEP: &str = "sweep";

#[derive(Debug, Subcommand)]
pub enum CacheAction {
    /// List what is there, what was used last first.
    List {
        /// Print JSON, with all that each entry depends on.
        #[arg(long)]
        json: bool,
    },
    /// Check every byte; damaged entries are set aside, and made again by the next run.
    Verify,
    /// Remove what no run used for a while.
    Prune {
        /// Unused for at least so long: 30d, 12h, 90m. Default: any time.
        #[arg(long, value_parser = age)]
        older: Option<Duration>,
        /// So many of those that were used last stay in any case.
        #[arg(long, default_value_t = 0)]
        keep_last: usize,
    },
    /// Remove everything.
    Clear,
}

/// A time with its unit.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 30d, 12h, 90m or 30s");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

impl Command {
    /// Whether it keeps all cores busy for a while.
    pub fn computes(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Sweep(SweepArgs { action: None, .. }))
    }
}

#[derive(Debug, ClapArgs)]
pub struct InitArgs {
    /// An ONNX file, a folder of a language model as Hugging Face has it, or a built-in architecture such as lenet5.
    pub model: String,
    /// What holds samples: an .npz, .npy, .csv or .tar file, a text, a folder of images or recordings in a folder a class, a folder with the idx files of MNIST, or a data
    /// file (.yaml).
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// A target by name, such as cortex-m4, or its file. Default: no hardware in particular.
    #[arg(long)]
    pub target: Option<String>,
    /// What counts most. Default: smallest.
    #[arg(long, value_parser = PossibleValuesParser::new(Goal::ALL.map(Goal::name)).map(goal))]
    pub goal: Option<Goal>,
    /// The file to write; the data file goes beside it. Default: the model's name with the ending .yaml, in the current folder.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Write over files that are there.
    #[arg(long)]
    pub force: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
}

/// One of the names that the parser let through.
fn goal(name: String) -> Goal {
    Goal::named(&name).unwrap_or_default()
}

#[derive(Debug, ClapArgs)]
pub struct PipelineArgs {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// Another seed than the pipeline's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Another value of a key, as often as need be: `stages.2.prune.structured.ratio=60%`. Stages go by number or name, items of lists by number, from 1; `~` takes
    /// a key or a stage away.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How long work goes on: what it keeps, and what it tells.
#[derive(Debug, ClapArgs)]
pub struct GoingArgs {
    /// How often a stage that trains keeps how far it is, so that a run that is killed loses no more: 30s, 5m, 1h. `0s` keeps every step.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = age)]
    pub checkpoint_every: Duration,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print every event as one line of JSON.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// The folder of all runs; this run's is OUT/NAME/HASH.
    #[arg(long, default_value = "reports")]
    pub out: PathBuf,
    /// Do every stage anew, whatever the cache holds.
    #[arg(long)]
    pub fresh: bool,
    /// Compile and run the C source of a model that came from outside, to measure its size and its answers.
    #[arg(long)]
    pub measure: bool,
    #[command(flatten)]
    pub going: GoingArgs,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct SweepArgs {
    #[command(subcommand)]
    pub action: Option<SweepAction>,
    /// The sweep file.
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// The folder of all runs; the sweep's own is OUT/sweeps/NAME.
    #[arg(long, default_value = "reports")]
    pub out: PathBuf,
    /// Workers that try recipes side by side, where the sweep's executor starts them: by default processes of this machine, which share its cores.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    pub workers: NonZeroUsize,
    #[command(flatten)]
    pub going: GoingArgs,
    /// Be one of several workers, of this name.
    #[arg(long, hide = true)]
    pub worker: Option<String>,
    /// As a worker: run the finalists.
    #[arg(long, hide = true, requires = "worker")]
    pub finals: bool,
}

/// Which sweep a question is about.
#[derive(Debug, ClapArgs)]
pub struct SweepOf {
    /// The sweep file.
    pub file: PathBuf,
    /// The folder of all runs.
    #[arg(long, default_value = "reports")]
    pub out: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum SweepAction {
    /// Say how many recipes were tried, and how.
    Status {
        #[command(flatten)]
        of: SweepOf,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Show the best recipes so far, and which of them truly differ where the finalists were run.
    Best {
        #[command(flatten)]
        of: SweepOf,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Write the sweep's page, sweep.html, as far as it is: trials to filter and to sort, charts, what the figures hang on, finalists.
    Report {
        #[command(flatten)]
        of: SweepOf,
    },
    /// Write all trials as a table.
    Export {
        #[command(flatten)]
        of: SweepOf,
        /// The file to write: .csv or .parquet.
        #[arg(short, long, default_value = "trials.csv")]
        output: PathBuf,
    },
    /// Have a recipe of one's own tried next.
    Add {
        #[command(flatten)]
        of: SweepOf,
        /// A value of every key of the space that is there: `stages.prune.unstructured.sparsity=80%`.
        #[arg(long, value_name = "KEY=VALUE", required = true)]
        set: Vec<String>,
    },
}

/// A dimension and its length.
fn constant(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("write INPUT=NUMBER, such as sr=16000")?;
    match number.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((name.trim().to_string(), value)),
        _ => Err(format!("`{number}` is no finite number")),
    }
}

fn dimension(text: &str) -> Result<(String, i64), String> {
    let (name, length) = text.split_once('=').ok_or("write NAME=LENGTH, such as seq=128")?;
    match length.trim().parse() {
        Ok(length) if length > 0 => Ok((name.trim().to_string(), length)),
        _ => Err(format!("`{length}` is no length: a whole number above zero is")),
    }
}
