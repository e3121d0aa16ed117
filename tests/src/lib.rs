//! What tests that cross crates share: a small data set written to a folder, pipelines over it, and the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The folder of real data beside the repository, where there is one; tests that want it say so and pass without.
pub fn shared() -> Option<PathBuf> {
    let folder = root().parent()?.join("shared");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: there is no folder `shared` beside the repository");
    None
}

/// The ONNX project's operator tests, which the set-up fetches.
pub fn onnx_tests() -> PathBuf {
    root().join(".cache/onnx-tests")
}

/// The built command line, run in `folder`.
pub fn sinter(folder: &Path, args: &[&str]) -> Output {
    let mut command = sinter_command(folder, args);
    command.output().unwrap_or_else(|e| panic!("could not start sinter: {e}"))
}

/// The same, not yet started.
pub fn sinter_command(folder: &Path, args: &[&str]) -> Command {
    // Test programs lie in target/PROFILE/deps, the command line in target/PROFILE.
    let me = std::env::current_exe().unwrap_or_default();
    let program = me.ancestors().nth(2).unwrap_or(Path::new("target/debug")).join("sinter");
    assert!(program.is_file(), "{} is not built: `cargo xtask test` builds it", program.display());
    let mut command = Command::new(program);
    command.args(args).current_dir(folder);
    command
}

/// Writes an idx data set of `train` and `test` pictures of 12 x 12 in four classes: a bright bar along one of the four sides, with noise.
/// Learnable in seconds, and not perfectly.
pub fn write_bars(folder: &Path, train: usize, test: usize) {
    std::fs::create_dir_all(folder).expect("a folder for the data");
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u32
    };
    for (part, count) in [("train", train), ("t10k", test)] {
        let mut images = [0x0803u32, count as u32, 12, 12].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
        let mut labels = [0x0801u32, count as u32].iter().flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
        for _ in 0..count {
            let class = random() % 4;
            let depth = (random() % 5) as usize;
            labels.push(class as u8);
            for y in 0..12usize {
                for x in 0..12usize {
                    let distance = [y, 11 - y, x, 11 - x][class as usize];
                    let bright = if distance == depth { 120 } else { 0 };
                    images.push((bright + random() % 130) as u8);
                }
            }
        }
        std::fs::write(folder.join(format!("{part}-images-idx3-ubyte.gz")), images).expect("images");
        std::fs::write(folder.join(format!("{part}-labels-idx1-ubyte.gz")), labels).expect("labels");
    }
    let yaml = "name: bars\nsource: { idx: { folder: . } }\nnormalize: { mean: [0.3], std: [0.25] }\n";
    std::fs::write(folder.join("bars.yaml"), yaml).expect("the data file");
}

/// A pipeline file over that data set, with LeNet-300-100 unless the text names another model.
pub fn write_pipeline(folder: &Path, name: &str, rest: &str) -> PathBuf {
    let path = folder.join(format!("{name}.yaml"));
    let model = if rest.contains("model:") { "" } else { "model: { zoo: lenet-300-100 }\n" };
    std::fs::write(&path, format!("name: {name}\nseed: 3\n{model}data: bars.yaml\n{rest}")).expect("the pipeline file");
    path
}

/// Every stage once, in a few seconds.
pub const ALL_STAGES: &str = "stages:
  - train: { epochs: 3 }
  - prune: { structured: { ratio: 30% }, finetune: { epochs: 1 } }
  - prune: { pattern: \"2:4\" }
  - cluster: { centroids: 8, finetune: { epochs: 1 } }
  - distill: { epochs: 1 }
  - quantize: { mode: qat, finetune: { epochs: 1, lr: 1e-4 } }
";
