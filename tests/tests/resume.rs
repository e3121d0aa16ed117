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
  - train: { epochs: 12 }
";

/// Rounding that trains layer by layer, and rounding of each layer on what the rounded layers before it give.
const ROUNDING: &str = "model: { zoo: lenet-300-100 }
stages:
  - train: { epochs: 2 }
  - name: learned
    quantize: { weights: int4, rounding: { learned: { steps: 60 } } }
";
const SEQUENTIAL: &str = "model: { zoo: lenet-300-100 }
stages:
  - train: { epochs: 2 }
  - quantize: { weights: int4/group:32, activations: none, rounding: { gptq: { float_target: true } } }
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
    for (name, trainings) in
        [("all", TRAININGS), ("following", FOLLOWING), ("dropout", DROPOUT), ("rounding", ROUNDING), ("sequential", SEQUENTIAL)]
    {
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

/// Slow enough to be met in the middle of its first stage.
const LONG: &str = "stages:\n  - train: { epochs: 400 }\n";

/// Waits until a run tells something.
fn heard(lines: &mut impl Iterator<Item = std::io::Result<String>>, what: &str) -> String {
    lines.map_while(Result::ok).find(|line| line.contains(what)).unwrap_or_else(|| panic!("the run never told of {what}"))
}

fn standing(folder: &Path, out: &str) -> String {
    said(&sinter(folder, &["status", out]))
}

#[test]
fn the_first_ctrl_c_keeps_the_step_and_status_tells() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, LONG);
    assert!(standing(folder, "runs").contains("runs is no folder"));
    let mut child = start(folder, "runs", &["--checkpoint-every", "1h"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    heard(&mut lines, "\"event\":\"epoch\"");
    let running = standing(folder, "runs");
    assert!(running.starts_with("running ") && running.contains("1-train (1 of 1)"), "{running}");
    let signal = |name: &str| {
        let killed = std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    };
    signal("-INT");
    heard(&mut lines, KEPT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("stopping after this step") && text.contains("stopped in stage 1-train, at epoch "), "{text}");
    let stopped = standing(folder, "runs");
    assert!(stopped.starts_with("interrupted ") && stopped.contains("the same command goes on at epoch "), "{stopped}");
    let json = said(&sinter(folder, &["status", "runs", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["state"], &json[0]["stage"]), (&"interrupted".into(), &"1-train".into()), "{json}");

    // The rest of it is left to the other tests: shorter, and of the same seed.
    std::fs::write(folder.join("p.yaml"), std::fs::read_to_string(folder.join("p.yaml")).unwrap().replace("400", "2")).unwrap();
    let done = run(folder, "other", &[]);
    assert!(done.status.success(), "{}", said(&done));
    let all = said(&sinter(folder, &["status", "runs", "other"]));
    assert!(all.contains("\ndone ") && all.contains("lenet-300-100 trained"), "{all}");
    write_pipeline(folder, "p", "stages:\n  - train: { epochs: 1, optimizer: sgd, lr: 1e30 }\n");
    let failed = run(folder, "bad", &[]);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    let bad = standing(folder, "bad");
    assert!(bad.starts_with("failed ") && bad.contains("diverged"), "{bad}");
}

#[test]
fn the_second_signal_stops_at_once_and_a_killed_run_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, LONG);
    let mut child = start(folder, "runs", &STEPS);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    heard(&mut lines, KEPT);
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = standing(folder, "runs");
    assert!(killed.starts_with("interrupted ") && killed.contains("1-train"), "{killed}");
    // Whatever becomes of the first signal, the second one ends the run.
    let mut child = start(folder, "runs", &["--checkpoint-every", "1h"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    heard(&mut lines, RESUMED);
    for _ in 0..2 {
        let _gone_already = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

/// What is kept is checked byte by byte; where it is damaged the stage begins anew, and comes to the same.
#[test]
fn damaged_work_is_not_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, DROPOUT);
    assert!(run(folder, "calm", &[]).status.success());
    let wanted = left(&folder.join("calm"));
    for file in ["tensors.safetensors", "work.json", "model.model.safetensors"] {
        assert!(killed_after(folder, "rough", 9).is_some());
        let entries = std::fs::read_dir(folder.join("rough/.cache")).unwrap().map(|e| e.unwrap().path());
        let work = entries.into_iter().find(|e| e.join("work.json").is_file()).expect("kept work");
        let mut bytes = std::fs::read(work.join(file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(work.join(file), bytes).unwrap();
        let last = run(folder, "rough", &["--json"]);
        let text = said(&last);
        assert!(last.status.success() && text.contains("is damaged") && !text.contains(RESUMED), "{file}: {text}");
        assert_eq!(left(&folder.join("rough")).0, wanted.0, "{file}");
        std::fs::remove_dir_all(folder.join("rough")).unwrap();
    }
}
