//! What can be written on the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// Presses trained neural networks into small ones.
///
/// A pipeline is a YAML file that names a model, data and stages (train, prune, cluster, distill, quantize). `sinter run` does the stages,
/// measures what each did to size, accuracy, operations and energy, and leaves a report and files that real runtimes load.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed while running, 2 wrong input (nothing was written), 3 done, but the budget is missed."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline; what an earlier run did is not done again.
    Run(RunArgs),
    /// Check a pipeline and all that it names, without running it.
    Check { pipeline: PathBuf },
    /// Write the same report for several runs side by side.
    Compare {
        /// Folders of runs (each holds a run.json), or folders that hold such.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where compare.html goes.
        #[arg(long, default_value = "reports/compare")]
        out: PathBuf,
    },
    /// Print a model's layers, weights, multiply-accumulates and memory.
    Inspect {
        /// An ONNX file, or a packed file (.sinter).
        model: PathBuf,
        /// A target file, such as configs/targets/cortex-m4.yaml: what an inference costs there, and whether the model fits.
        #[arg(long)]
        target: Option<PathBuf>,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Draw the report of an old run again.
    Report { run: PathBuf },
    /// Turn a packed file into ONNX.
    Unpack {
        file: PathBuf,
        /// The file to write. Default: beside the packed file, with the ending .onnx.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// List the ONNX operators that models may use.
    Operators,
}

impl Command {
    /// Whether it keeps all cores busy for a while.
    pub fn computes(&self) -> bool {
        matches!(self, Self::Run(_))
    }
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// The folder of all runs; this run's is OUT/NAME/HASH.
    #[arg(long, default_value = "reports")]
    pub out: PathBuf,
    /// Another seed than the pipeline's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Do every stage anew, whatever the cache holds.
    #[arg(long)]
    pub fresh: bool,
    /// Compile and run the C source of a model that came from outside, to measure its size and its answers.
    #[arg(long)]
    pub measure: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print every event as one line of JSON.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}
