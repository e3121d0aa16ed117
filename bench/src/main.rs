//! Benchmarks of Sinter beside peers: kernels on the same arrays, pipelines on real data. `cargo xtask bench` builds this, installs the
//! peers and starts it.

mod estimates;
mod kernels;
mod peers;
mod pipelines;
mod quantize;
mod sweep;
mod table;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use peers::Peers;

/// Kernels and pipelines of Sinter beside peers.
#[derive(Debug, Parser)]
struct Args {
    /// The Python that has the peers.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Clustering, masks and coding, on the same arrays.
    Kernels {
        /// Where arrays go that peers read.
        #[arg(long)]
        scratch: PathBuf,
        /// Also the exact optimum at k = 256: minutes, and 10 GB of memory.
        #[arg(long)]
        exact: bool,
    },
    /// Second-order rounding and static quantization.
    Quantize {
        /// The `sinter` that trains what comes untrained.
        #[arg(long)]
        sinter: PathBuf,
        /// Where arrays go that peers read.
        #[arg(long)]
        scratch: PathBuf,
        /// A folder with `kws_ds_cnn.onnx`, `kws01.npz`, `ic_resnet8.onnx` and `cifar10-images.tar`.
        #[arg(long)]
        data: Option<PathBuf>,
    },
    /// The memory that quantizing one model takes; `quantize` asks for it in processes of their own.
    #[command(hide = true)]
    Peak { model: PathBuf, data: String, samples: usize },
    /// Samplers of recipes on functions whose best point is known, and on a stored table of results.
    Sweep {
        /// What came of forty recipes of LeNet-5.
        #[arg(long, default_value = "bench/lenet5-recipes.csv")]
        table: PathBuf,
        /// Searches of each sampler.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
    },
    /// Pipelines, once for each seed, and what xz and zip make of the same weights.
    Pipelines {
        /// The `sinter` to run.
        #[arg(long)]
        sinter: PathBuf,
        /// Where runs go.
        #[arg(long)]
        out: PathBuf,
        #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
        seeds: Vec<u64>,
        pipelines: Vec<PathBuf>,
    },
    /// How far the estimates for boards are off, for models that were left out.
    Estimates {
        /// A folder of targets.
        #[arg(long)]
        targets: PathBuf,
        /// MLPerf Tiny's published results, to check the targets against.
        #[arg(long)]
        published: Option<PathBuf>,
    },
    /// Five models' artefacts in LiteRT, TensorFlow Lite Micro, ONNX Runtime, C and Vela, beside the integer reference.
    Verify {
        /// The `sinter` to run.
        #[arg(long)]
        sinter: PathBuf,
        /// Where runs and arrays go.
        #[arg(long)]
        scratch: PathBuf,
        /// Of lenet5, ds-cnn, resnet8, mobilenet and autoencoder. Default: all.
        models: Vec<String>,
    },
}

/// What a benchmark gives.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args = Args::parse();
    let peers = Peers { python: args.python, script: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers.py") };
    match args.what {
        What::Kernels { scratch, exact } => kernels::all(&peers, &scratch, exact),
        What::Quantize { sinter, scratch, data } => quantize::all(&peers, &sinter, &scratch, data.as_deref()),
        What::Peak { model, data, samples } => quantize::peak(&model, &data, samples),
        What::Pipelines { sinter, out, seeds, pipelines } => pipelines::all(&peers, &sinter, &out, &seeds, &pipelines),
        What::Sweep { table, seeds } => sweep::run(&peers.python, Path::new("bench/sweep.py"), &table, seeds),
        What::Estimates { targets, published } => estimates::all(&targets, published.as_deref()),
        What::Verify { sinter, scratch, models } => verify::all(&peers.python, &sinter, &scratch, &models),
    }
}
