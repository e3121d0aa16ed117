//! Pipelines that stand upon others, with variables, and with changes for one run.

use std::path::{Path, PathBuf};

use sinter_fixtures::{sinter_command, write_bars};
use sinter_pipeline::{Changes, ConfigError, Plan};

const BASE: &str = "name: base
seed: 5
model: { zoo: lenet-300-100 }
data: bars.yaml
stages:
  - train: { epochs: 2 }
  - prune: { unstructured: { sparsity: 50% } }
  - name: soft
    train: { epochs: 1, lr: 1e-4 }
  - quantize: { weights: int8/channel, samples: 64 }
export: [packed]
";

/// The base and its data in a folder, and a folder within it for what stands upon it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 64, 32);
    std::fs::write(folder.path().join("bars.yaml"), "name: bars\nsource: { idx: { folder: . } }\n").unwrap();
    std::fs::write(folder.path().join("base.yaml"), BASE).unwrap();
    std::fs::create_dir(folder.path().join("deep")).unwrap();
    folder
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn set(all: &[&str]) -> Changes {
    Changes { seed: None, set: all.iter().map(|s| s.to_string()).collect() }
}

fn read(path: &Path, changes: &[&str]) -> Result<Plan, ConfigError> {
    Plan::read(path, &set(changes))
}

/// What a plan comes to: its folder is the hash of all that counts.
fn hash(plan: &Plan) -> PathBuf {
    plan.run_folder(Path::new(""))
}

fn stages(plan: &Plan) -> Vec<String> {
    (1..=plan.config.stages.len()).map(|i| plan.stage_name(i)).collect()
}

#[test]
fn a_file_says_only_what_differs() {
    let folder = folder();
    let by_hand = "name: child
seed: 5
model: { zoo: lenet-300-100 }
data: ../bars.yaml
stages:
  - train: { epochs: 2 }
  - prune: { unstructured: { sparsity: 80%, criterion: magnitude } }
  - distill: { epochs: 1 }
  - name: soft
    train: { epochs: 1, lr: 5e-5 }
export: [packed, onnx]
";
    let by_hand = read(&write(&folder.path().join("deep"), "hand.yaml", by_hand), &[]).unwrap();
    let child = "extends: ../base.yaml
name: child
stages:
  - prune: { unstructured: { sparsity: 80%, criterion: magnitude } }
  - distill: { epochs: 1 }
    after: 2-prune
  - name: soft
    train: { lr: 5e-5 }
  - quantize: ~
export: [packed, onnx]
";
    let child = read(&write(&folder.path().join("deep"), "child.yaml", child), &[]).unwrap();
    assert_eq!(stages(&child), ["1-train", "2-prune", "3-distill", "4-soft"]);
    assert_eq!(hash(&child), hash(&by_hand));
    // What differs is not the same run.
    let other = read(&folder.path().join("deep/child.yaml"), &["stages.soft.lr=6e-5"]).unwrap();
    assert_ne!(hash(&other), hash(&child));
    // A file upon a file upon a file; the configuration that is recorded stands alone.
    let top = read(&write(folder.path(), "top.yaml", "extends: deep/child.yaml\nseed: 6\n"), &[]).unwrap();
    assert_eq!((top.config.seed, top.config.data.as_path()), (6, Path::new("deep/../bars.yaml")));
    assert_eq!(hash(&top), hash(&read(&folder.path().join("deep/hand.yaml"), &["seed=6"]).unwrap()));
}

#[test]
fn keys_are_set_for_one_run() {
    let folder = folder();
    let base = folder.path().join("base.yaml");
    let epochs = |changes: &[&str]| {
        let plan = read(&base, changes).unwrap();
        serde_json::to_value(&plan.config.stages).unwrap()
    };
    for same in ["stages.1.train.epochs=7", "stages.1-train.epochs=7", "stages.train.epochs=7", "stages.1.epochs=7"] {
        assert_eq!(epochs(&[same])[0]["train"]["epochs"], 7, "{same}");
    }
    assert_eq!(epochs(&["stages.soft.epochs=9", "stages.soft.name=hard"])[2]["train"]["epochs"], 9);
    let removed = read(&base, &["stages.3=~", "stages.prune=~", "export.1=onnx", "seed=8"]).unwrap();
    assert_eq!(stages(&removed), ["1-train", "2-quantize"]);
    assert_eq!(removed.config.seed, 8);
    // As if it were written there.
    let written = BASE.replace("50%", "70%");
    let written = read(&write(folder.path(), "written.yaml", &written), &[]).unwrap();
    assert_eq!(hash(&written), hash(&read(&base, &["stages.2.prune.unstructured.sparsity=70%"]).unwrap()));
    // A default that the file does not name, lists and mappings as a whole.
    let plan = read(&base, &["budget.flash=1 MB", "metrics=[f1]", "stages.quantize={weights: int4/channel}"]).unwrap();
    assert!(plan.config.budget.is_some() && plan.config.metrics.len() == 1);
}

#[test]
fn variables_come_from_the_file_or_by_leave_of_it_from_the_environment() {
    let folder = folder();
    let text = BASE.replace("sparsity: 50%", "sparsity: \"${SPARSITY}\"").replace("epochs: 2", "epochs: \"${EPOCHS}\"");
    let text = format!("vars: {{ SPARSITY: 50%, EPOCHS: {{ env: SINTER_TEST_EPOCHS, default: 2 }} }}\n{text}");
    let path = write(folder.path(), "vars.yaml", &text);
    let base = read(&folder.path().join("base.yaml"), &[]).unwrap();
    assert_eq!(hash(&read(&path, &[]).unwrap()), hash(&base));
    let set = read(&path, &["vars.SPARSITY=70%"]).unwrap();
    assert_eq!(hash(&set), hash(&read(&folder.path().join("base.yaml"), &["stages.prune.unstructured.sparsity=70%"]).unwrap()));
    // Only what the file asks for.
    let mut command = sinter_command(folder.path(), &["plan", "vars.yaml"]);
    let output = command.env("SINTER_TEST_EPOCHS", "4").env("SPARSITY", "99%").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("4 epochs") && told.contains("50%"), "{told}");
    // Within a text, and a plain one.
    let text = format!("vars: {{ N: 7 }}\n{}", BASE.replace("name: base", "name: run-${N}-a"));
    assert_eq!(read(&write(folder.path(), "n.yaml", &text), &[]).unwrap().config.name, "run-7-a");
    let text = BASE.replace("name: base", "name: run-$${N}");
    let error = read(&write(folder.path(), "n.yaml", &text), &[]).unwrap_err();
    assert!(error.message.contains("run-${N}"), "{}", error.message);
}

/// Names and numbers are those of the file below, whatever is put in or taken away; what is new stays as it was written.
#[test]
fn stages_are_those_of_the_file_below() {
    let folder = folder();
    let base = "name: base\nmodel: { zoo: lenet-300-100 }\ndata: bars.yaml\nstages:\n  - train: { epochs: 2 }\n  - prune: { unstructured: { sparsity: 30% } }\n  \
                - prune: { unstructured: { sparsity: 50% } }\n";
    write(folder.path(), "base.yaml", base);
    let plan = |stages: &str| {
        let path = write(folder.path(), "child.yaml", &format!("extends: base.yaml\nstages:\n{stages}"));
        let plan = read(&path, &[]).unwrap_or_else(|e| panic!("{stages}: {} {:?}", e.message, e.help));
        serde_json::to_string(&plan.config.stages.iter().map(|s| serde_json::to_value(s).unwrap()).collect::<Vec<_>>()).unwrap()
    };
    let [first, second] = [
        "  - cluster: { centroids: 16 }\n    before: 2-prune\n",
        "  - name: 3-prune\n    prune: { unstructured: { sparsity: 77% } }\n",
    ];
    let both = plan(&format!("{first}{second}"));
    assert_eq!(both, plan(&format!("{second}{first}")));
    let order = |text: &str, words: &[&str]| {
        let at: Vec<usize> = words.iter().map(|w| text.find(w).unwrap_or_else(|| panic!("{w} in {text}"))).collect();
        assert!(at.is_sorted(), "{words:?} in {text}");
    };
    order(&both, &["train", "cluster", "0.3", "0.77"]);
    // Both can go, and what is new keeps its order behind another.
    let text = plan(
        "  - name: 2-prune\n    prune: ~\n  - name: 3-prune\n    prune: ~\n  - distill: { epochs: 1 }\n    after: train\n  - cluster: { centroids: 8 }\n    after: train\n",
    );
    order(&text, &["train", "distill", "cluster"]);
    assert!(!text.contains("prune"), "{text}");
    // Two new ones of a kind are two.
    let text = plan(
        "  - distill: { epochs: 1 }\n  - cluster: { centroids: 8 }\n  - name: again\n    distill: { epochs: 3 }\n    after: 2-prune\n  - quantize: {}\n    before: again\n",
    );
    order(&text, &["0.3", "quantize", "\"epochs\":3", "0.5", "\"epochs\":1", "cluster"]);
    // Numbers on the command line stay those of the file, too.
    let base = folder.path().join("base.yaml");
    let left = read(&base, &["stages.2=~", "stages.3.unstructured.sparsity=60%"]).unwrap();
    assert!(stages(&left) == ["1-train", "2-prune"] && serde_json::to_string(&left.config.stages).unwrap().contains("0.6"));
}

/// A value is read as in a file that stands alone, and a variable as it was written.
#[test]
fn values_stay_as_they_were_written() {
    let folder = folder();
    let numbers = write(folder.path(), "numbers.yaml", &BASE.replace("name: base", "name: 123"));
    assert_eq!(read(&numbers, &["seed=1"]).unwrap().config.name, "123");
    let text = format!("vars: {{ V: 1.10, W: \"a${{V}}\" }}\n{}", BASE.replace("name: base", "name: run-${V}-${W}"));
    let versions = write(folder.path(), "versions.yaml", &text);
    assert_eq!(read(&versions, &[]).unwrap().config.name, "run-1.10-a1.10");
    assert_eq!(read(&versions, &["vars.V=2.0"]).unwrap().config.name, "run-2.0-a2.0");
    // What came from the environment is told, so that the run can be repeated.
    let text = format!(
        "vars: {{ PLACE: {{ env: SINTER_TEST_PLACE }} }}\n{}",
        BASE.replace("data: bars.yaml", "data: ${PLACE}/bars.yaml")
    );
    write(folder.path(), "deep/place.yaml", &text);
    write(
        folder.path(),
        "above.yaml",
        "extends: deep/place.yaml\nstages:\n  - train: { epochs: 1 }\n  - name: soft\n    train: ~\nexport: []\n",
    );
    let run = |place: &str| {
        sinter_command(folder.path(), &["run", "above.yaml", "--quiet"]).env("SINTER_TEST_PLACE", place).output().unwrap()
    };
    let whole = folder.path().to_str().unwrap();
    for place in ["..", whole] {
        let output = run(place);
        assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let command = sinter_fixtures::record(folder.path(), "base").command;
    assert!(command.contains(&format!("--set vars.PLACE={whole}")) || command.contains("--set vars.PLACE=.."), "{command}");
}

/// Every fault with the file, line and column of what was written, whichever file that is.
#[test]
fn faults_have_their_places() {
    let folder = folder();
    let base = folder.path().join("base.yaml");
    let place = |path: &Path, changes: &[&str]| {
        let error = read(path, changes).expect_err(&format!("{changes:?}"));
        let place = error.place().unwrap_or_default();
        let place = place.strip_prefix(folder.path().to_str().unwrap()).map(str::to_string).unwrap_or(place);
        (place.trim_start_matches('/').to_string(), format!("{} {}", error.message, error.help.unwrap_or_default()))
    };
    for (change, at, says) in [
        ("stages.2.prune.unstructured.sparsty=1%", "--set:1:1", "did you mean `sparsity`"),
        ("stages.2.prune.unstructured.sparsity=150%", "--set:1:38", "not between 0 and 1"),
        ("stages.9.epochs=1", "--set:1:1", "1-train, 2-prune, soft, 4-quantize"),
        ("export.3=c", "--set:1:1", "the list has 1"),
        ("export.c=c", "--set:1:1", "`c` is no number"),
        ("export=[packed, onxn]", "--set:1:17", "did you mean `onnx`"),
        ("seed=[1", "--set:1:8", "]"),
        ("seed", "", "gives no value"),
        ("..=1", "--set:1:1", "a key is empty"),
        ("stages.soft.name=1x", "--set:1:18", "a letter first"),
        ("stages.soft.name=train", "--set:1:18", "another stage is called"),
        ("data=none.yaml", "--set:1:6", "none.yaml"),
        ("extends=other.yaml", "--set:1:1", "before anything is set"),
        ("vars.X=1", "--set:1:1", "declares no variable `X`"),
        (&format!("a{}=1", ".a".repeat(50_000)), "--set:1:1", "50001 deep"),
        ("model.dims.\"ids.1\"=5", "--set:1:20", "`dims` goes with `onnx`"),
    ] {
        let (found, message) = place(&base, &[change]);
        assert!(found.starts_with(at) && message.contains(says), "{change}: {found}: {message}");
    }
    let deep = folder.path().join("deep");
    let child = |text: &str| write(&deep, "child.yaml", text);
    for (text, at, says) in [
        ("extends: ../nothing.yaml\n", "deep/child.yaml:1:10", "there is no file"),
        ("extends: child.yaml\n", "deep/child.yaml:1:10", "extends itself"),
        ("extends: [a]\n", "deep/child.yaml:1:10", "no path"),
        ("extends: ../base.yaml\nstages:\n  - prune: { unstructured: { sparsity: 2 } }\n", "deep/child.yaml:3:40", "not between"),
        (
            "extends: ../base.yaml\nstages:\n  - cluster: {}\n    after: tune\n",
            "deep/child.yaml:4:12",
            "no stage is called `tune`",
        ),
        ("extends: ../base.yaml\nstages:\n  - prune: {}\n    after: soft\n", "deep/child.yaml:4:12", "has this stage already"),
        ("extends: ../base.yaml\nstages:\n  - name: soft\n    prune: {}\n", "deep/child.yaml:3:11", "is a `train` stage there"),
        ("extends: ../base.yaml\nname: ${X}\n", "deep/child.yaml:2:7", "there is no variable `X`"),
        ("extends: ../base.yaml\nvars: { X: ~ }\nname: ${X}\n", "deep/child.yaml:2:12", "--set vars.X=VALUE"),
        ("extends: ../base.yaml\nvars: { X: [1] }\nname: a${X}\n", "deep/child.yaml:3:7", "a list or a mapping"),
        ("extends: ../base.yaml\nname: a${X\n", "deep/child.yaml:2:7", "has no `}`"),
        ("vars: { X: 1 }\nmodel: { zoo: ${X} }\n", "deep/child.yaml:2:", "stands in quotes"),
        (
            "extends: ../base.yaml\nstages:\n  - cluster: ~\n",
            "deep/child.yaml:3:5",
            "no stage is called `cluster`, to be taken away",
        ),
        (
            "extends: ../base.yaml\nstages:\n  - quantize: ~\n  - cluster: {}\n    after: quantize\n",
            "deep/child.yaml:5:12",
            "taken away",
        ),
        (
            "extends: ../base.yaml\nstages:\n  - quantize: {}\n  - quantize: {}\n",
            "deep/child.yaml:4:5",
            "said of the stage `4-quantize` already",
        ),
        ("extends: ../${A}.yaml\n", "deep/child.yaml:1:10", "takes no variable"),
        (
            "name: a\nmodel: { zoo: lenet5 }\ndata: ../bars.yaml\nstages:\n  - train: { epochs: 1 }\n    after: x\n",
            "deep/child.yaml:",
            "places a new stage",
        ),
        ("extends: ../base.yaml\n  bad\n", "deep/child.yaml:", ""),
    ] {
        let (found, message) = place(&child(text), &[]);
        assert!(found.starts_with(at) && message.contains(says), "{text}: {found}: {message}");
    }
    // The fault is in the file below.
    write(folder.path(), "base.yaml", &BASE.replace("sparsity: 50%", "sparsity: 5"));
    let (found, message) = place(&child("extends: ../base.yaml\nname: child\n"), &[]);
    assert!(found.starts_with("deep/../base.yaml:7:40"), "{found}: {message}");
    // Two of a kind, none of which is meant.
    write(folder.path(), "base.yaml", &BASE.replace("  - name: soft\n    train", "  - train"));
    let (found, message) = place(&child("extends: ../base.yaml\nstages:\n  - train: { epochs: 1 }\n"), &[]);
    assert!(
        found.starts_with("deep/child.yaml:3") && message.contains("`name: 1-train` or `name: 3-train`"),
        "{found}: {message}"
    );
    let one = child("extends: ../base.yaml\nstages:\n  - name: 3-train\n    train: { epochs: 4 }\n");
    assert_eq!(stages(&read(&one, &[]).unwrap()), ["1-train", "2-prune", "3-train", "4-quantize"]);
}
