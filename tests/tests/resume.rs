//! Runs that are stopped inside of a stage: they go on there, and end as if nothing had been.
//! `SINTER_ROUNDS=50 cargo test -p sinter-tests --test resume` kills fifty runs, each several times; a few of them run at every landing.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};

use sinter_fixtures::{Sketch, figures, sinter, sinter_command, write_bars, write_pipeline};
use sinter_model::Attributes;
use sinter_report::RunRecord;
use tch::Tensor;

/// Every way to train: plain and with early stopping; masks that grow, in rounds and with rewinding; shared values that are reassigned; a teacher;
/// scales that are learned; ranges that follow.
const TRAININGS: &str = "model: { zoo: lenet-300-100 }
stages:
  - train: { epochs: 3, optimizer: sgd, lr: 0.02, patience: 2 }
  - prune: { unstructured: { sparsity: 60%, criterion: movement }, schedule: { cubic: { every: 3, until: 70% } }, finetune: { epochs: 2 } }
  - prune: { structured: { ratio: 20% }, schedule: { iterative: { rounds: 2 } }, finetune: { epochs: 1, optimizer: adamw, weight_decay: 1e-4 } }
  - cluster: { centroids: 8, reassign: 4, finetune: { epochs: 2 } }
  - distill: { epochs: 1 }
  - quantize: { mode: qat, scales: learned, finetune: { epochs: 1, lr: 1e-4 } }
";

/// The ranges of values follow training; another model, so that normalisations and their statistics are there.
const FOLLOWING: &str = "model: { zoo: resnet8 }
stages:
  - train: { epochs: 1 }
  - quantize: { mode: qat, scales: moving-average, finetune: { epochs: 2, lr: 1e-4 } }
";

/// What dropout draws depends on the step alone.
const DROPOUT: &str = "model: { onnx: dropout.onnx }
stages:
  - train: { epochs: 6 }
";

fn prepare(folder: &Path, trainings: &str) {
    write_bars(folder, 600, 200);
    let data = std::fs::read_to_string(folder.join("bars.yaml")).unwrap();
    std::fs::write(folder.join("bars.yaml"), format!("{data}split: {{ validation: 20% }}\n")).unwrap();
    write_pipeline(folder, "p", trainings);
    let mut s = Sketch::new(&[1, 12, 12]);
    s.weight("w", &[144, 32]).weight("v", &[32, 4]).constant("half", Tensor::from(0.5f32));
    s.node("Flatten", Attributes::new(), &["x"], "flat").node("MatMul", Attributes::new(), &["flat", "w"], "wide");
    s.node("Relu", Attributes::new(), &["wide"], "bent").node("Dropout", Attributes::new(), &["bent", "half"], "some");
    s.node("MatMul", Attributes::new(), &["some", "v"], "y");
    sinter_onnx::save(&s.finish(), &folder.join("dropout.onnx"), sinter_onnx::Storage::Inside).unwrap();
}

const STEPS: [&str; 2] = ["--checkpoint-every", "0s"];

fn run(folder: &Path, out: &str, more: &[&str]) -> Output {
    sinter(folder, &[&["run", "p.yaml", "--out", out][..], more].concat())
}

fn start(folder: &Path, out: &str, more: &[&str]) -> Child {
    let mut command = sinter_command(folder, &[&["run", "p.yaml", "--out", out, "--json"][..], more].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn folder_of_run(out: &Path) -> PathBuf {
    let runs: Vec<PathBuf> = std::fs::read_dir(out.join("p")).unwrap().map(|e| e.unwrap().path()).collect();
    let [run] = &runs[..] else { panic!("one run, not {runs:?}") };
    run.clone()
}

/// What a run leaves: figures, every epoch's loss and quality, what the stages said, and the packed file.
fn left(out: &Path) -> (String, Vec<u8>) {
    let folder = folder_of_run(out);
    let record = RunRecord::read(&folder).unwrap();
    let curves: Vec<_> = record.curves.iter().map(|c| (&c.stage, c.epoch, c.loss, c.value)).collect();
    let told = format!("{:#?}\n{curves:#?}\n{:#?}", figures(&record), record.notes);
    (told, std::fs::read(folder.join("artifacts/model.sinter")).unwrap())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const KEPT: &str = "\"event\":\"stage-kept\"";
const RESUMED: &str = "\"event\":\"stage-resumed\"";

/// Starts a run, and kills it when it has kept so many steps; gives what it said. `None` for one that came to its end before.
fn killed_after(folder: &Path, out: &str, steps: usize) -> Option<String> {
    let mut child = start(folder, out, &STEPS);
    let (mut text, mut kept) = (String::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        kept += usize::from(line.contains(KEPT));
        text += &line;
        if kept >= steps {
            break;
        }
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}: {text}");
    (!status.success()).then_some(text)
}

#[test]
fn a_run_killed_inside_of_its_stages_ends_as_one_that_was_not() {
    let rounds = std::env::var("SINTER_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(5);
    for (name, trainings) in [("all", TRAININGS), ("following", FOLLOWING), ("dropout", DROPOUT)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder, trainings);
        let calm = run(folder, "calm", &["--checkpoint-every", "1h"]);
        assert!(calm.status.success(), "{name}: {}", said(&calm));
        let wanted = left(&folder.join("calm"));
        let kept = run(folder, "kept", &[&STEPS[..], &["--json"]].concat());
        assert!(kept.status.success(), "{name}: {}", said(&kept));
        assert_eq!(left(&folder.join("kept")).0, wanted.0, "{name}: keeping changes what is kept");
        let steps = said(&kept).matches(KEPT).count();
        for round in 0..rounds {
            let (mut moments, mut resumed) = (Vec::new(), 0);
            for _ in 0..4 {
                moments.push(random.usize(1..=steps / 2));
                match killed_after(folder, "rough", moments[moments.len() - 1]) {
                    Some(text) => resumed += text.matches(RESUMED).count(),
                    None => break,
                }
            }
            let last = run(folder, "rough", &["--json"]);
            let when = format!("{name}, round {round}, killed after {moments:?} steps of {steps}");
            assert!(last.status.success(), "{when}: {}", said(&last));
            resumed += said(&last).matches(RESUMED).count();
            assert!(resumed > 0, "{when}: nothing was taken up");
            let found = left(&folder.join("rough"));
            assert_eq!(found.0, wanted.0, "{when}");
            assert!(found.1 == wanted.1, "{when}: another file");
            let work = said(&sinter(folder, &["cache", "list", "--out", "rough"]));
            assert!(!work.contains("  work "), "{when}: work was left behind: {work}");
            std::fs::remove_dir_all(folder.join("rough")).unwrap();
        }
    }
}
