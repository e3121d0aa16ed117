//! Benchmarks of Sinter beside peers: kernels on the same arrays, pipelines on real data. `cargo xtask bench` builds this, installs the
//! peers and starts it.

mod kernels;
mod peers;
mod pipelines;
mod table;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use peers::Peers;

/// Kernels and pipelines of Sinter beside peers.
#[derive(Debug, Parser)]
struct Args {
    /// The Python that has the peers.
    #[arg(long)]
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
}

/// What a benchmark gives.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args = Args::parse();
    let peers = Peers { python: args.python, script: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers.py") };
    match args.what {
        What::Kernels { scratch, exact } => kernels::all(&peers, &scratch, exact),
        What::Pipelines { sinter, out, seeds, pipelines } => pipelines::all(&peers, &sinter, &out, &seeds, &pipelines),
    }
}
