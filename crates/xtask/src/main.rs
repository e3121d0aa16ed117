//! Everything that a contributor does is one `cargo xtask` word. Depends on neither libtorch nor polars, so it builds in seconds.

mod bench;
mod data;
mod dist;
mod docs;
mod python;
mod repository;
mod setup;
mod shape;
mod shell;
mod slurm;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask WORD

  setup [--cuda] [--data DIR] [--runtimes] [--browser] [--boards]
                                fetch what is missing: libtorch, ONNX Runtime, Fashion-MNIST; with --runtimes also LiteRT, TensorFlow
                                Lite Micro and Vela, with which a run measures the arena of its TFLite file; with --browser also
                                Debian's Chromium, in which tests look at the pages (as root); with --boards also GCC for Cortex-M,
                                with which flash is measured, and QEMU, in which tests run the C source on boards (as root)
  data NAME...                  bring the models and data of pipelines that need more than set-up brings; without a name, list them
  demo                          set up, then run pipelines/quickstart.yaml and say where its report lies
  test                          set up, then run every test
  bench [kernels|quantize|certify|sweep|models|language|mnist|fashion|cifar] [--data DIR] [--exact]
                                install peers, then run benchmarks beside them; DIR holds mnist/, cifar10-images.tar and ic_resnet8.onnx
  verify-artifacts [MODEL...]   set up, install LiteRT, TensorFlow Lite Micro, ONNX Runtime and Vela, and compare what they
                                answer to the files of five models with the integer reference
  validate-estimates [--data DIR]
                                set up, then print how far the estimates for boards are off for models that were left out; DIR may
                                hold mlperf_tiny_energy.csv, against which the targets' facts are checked
  docs [--check]                write docs/reference.md and the schemas from the doc comments; with --check, fail where they are stale
  shape                         print circles of files and files that are too long; fail where there are any
  dist                          set up, then build an archive that runs after unpacking: target/dist/
  slurm up | down               install Slurm and start a cluster of one node on this machine, for tests of sweeps; stop it (as root)
  deny                          install cargo-deny, then check licences and sources of all crates, and that none is there that must not be
  fuzz [--minutes N | --cases N] [TARGET...]
                                set up, then read files that were mutated (10,000 of each kind) and print what panicked, aborted or hung
  conformance                   set up, then run the ONNX project's own operator tests and print a table

An exported LIBTORCH is taken as it is. `--data DIR` names a folder that holds the four Fashion-MNIST files.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (word, rest) = match args.split_first() {
        Some((word, rest)) => (word.as_str(), rest.to_vec()),
        None => ("help", vec![]),
    };
    let done = match word {
        "setup" => setup_options(&rest).and_then(|o| setup::all(&o)),
        "demo" => setup_options(&rest).and_then(|o| setup::all(&o)).and_then(|()| demo()),
        "test" => setup::all(&setup::Options::default()).and_then(|()| test(&rest)),
        "data" => data::bring(&rest),
        "docs" => setup::all(&setup::Options::default()).and_then(|()| docs::all(rest.iter().any(|a| a == "--check"))),
        "shape" => shape::check(),
        "dist" => dist::archive(),
        "slurm" => match rest.first().map(String::as_str) {
            Some("up") => slurm::up(),
            Some("down") => slurm::down(),
            _ => Err(format!("slurm up, or slurm down\n\n{HELP}")),
        },
        "deny" => deny(),
        "fuzz" => setup::all(&setup::Options::default()).and_then(|()| fuzz(&rest)),
        "conformance" => setup::all(&setup::Options::default()).and_then(|()| conformance()),
        "verify-artifacts" => verify::artifacts(&rest),
        "validate-estimates" => setup_options(&rest).and_then(|o| verify::estimates(o.data.as_deref())),
        "bench" => bench_options(&rest).and_then(|o| bench::all(&o)),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("`{other}` is not a word of xtask\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn setup_options(args: &[String]) -> Result<setup::Options, String> {
    let mut options = setup::Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--cuda" => options.cuda = true,
            "--runtimes" => options.runtimes = true,
            "--browser" => options.browser = true,
            "--boards" => options.boards = true,
            "--data" => options.data = Some(PathBuf::from(args.next().ok_or("--data wants a folder")?)),
            other => return Err(format!("`{other}` is not an option of setup\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn bench_options(args: &[String]) -> Result<bench::Options, String> {
    let mut options = bench::Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exact" => options.exact = true,
            "--data" => options.data = Some(PathBuf::from(args.next().ok_or("--data wants a folder")?)),
            word => options.words.push(word.to_string()),
        }
    }
    Ok(options)
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Builds the programs. Always the same packages: with others, libraries would have other features and be built again.
fn build(options: &[&str]) -> Result<(), String> {
    let args = [&["build", "--package", "sinter", "--package", "sinter-bench"], options].concat();
    shell::run(&cargo(), &args, &repository::root())
}

fn demo() -> Result<(), String> {
    let root = repository::root();
    shell::run(&cargo(), &["build", "--package", "sinter"], &root)?;
    shell::run("target/debug/sinter", &["run", "pipelines/quickstart.yaml"], &root)
}

fn test(rest: &[String]) -> Result<(), String> {
    shell::run(&cargo(), &["test", "--quiet", "--package", "xtask"], &repository::root())?;
    // The command line is built first: tests that start it should find it.
    shell::run(&cargo(), &["build", "--package", "sinter"], &repository::root())?;
    let mut args = vec!["test", "--workspace", "--exclude", "xtask", "--no-fail-fast"];
    args.extend(rest.iter().map(String::as_str));
    // Tests run side by side; threads that spin while they wait would starve each other.
    shell::run_with(&cargo(), &args, &repository::root(), &[("OMP_NUM_THREADS", "1"), SPIN, shell::EXACTLY])
}

/// Threads that wait sleep soon; what tests and benchmarks start inherits it, as the program sets it for itself.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// The version of cargo-deny; it is kept in `.cache/tools`.
const CARGO_DENY: &str = "0.18.9";

fn deny() -> Result<(), String> {
    let root = repository::root();
    let program = root.join(".cache/tools/bin/cargo-deny");
    if !program.is_file() {
        let place = root.join(".cache/tools").display().to_string();
        // A tool that runs for a second: how fast it is does not matter, how long it builds does.
        let args = ["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--debug", "--root", &place];
        shell::run(&cargo(), &args, &root)?;
    }
    shell::run(&program.display().to_string(), &["--log-level", "error", "check", "licenses", "bans", "sources"], &root)
}

fn fuzz(rest: &[String]) -> Result<(), String> {
    let root = repository::root();
    shell::run(&cargo(), &["build", "--package", "sinter-fuzz"], &root)?;
    let args: Vec<&str> = rest.iter().map(String::as_str).collect();
    shell::run_with("target/debug/sinter-fuzz", &args, &root, &[("OMP_NUM_THREADS", "1"), SPIN])
}

fn conformance() -> Result<(), String> {
    let args = ["test", "--package", "sinter-tests", "--test", "conformance", "--", "--nocapture"];
    shell::run(&cargo(), &args, &repository::root())
}
