//! The cache from outside: what is damaged is named and made again, runs side by side share their work, and old results go.

use std::path::Path;

use sinter_fixtures::{figures, record, sinter, sinter_command, write_bars, write_pipeline};

const STAGES: &str = "stages:\n  - train: { epochs: 2 }\n  - prune: { pattern: \"2:4\" }\nexport: [packed]\n";

fn ran(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = sinter(folder, args);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

fn entries(folder: &Path) -> Vec<serde_json::Value> {
    let (code, text) = ran(folder, &["cache", "list", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_damaged_entry_is_named_set_aside_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_bars(at, 300, 100);
    write_pipeline(at, "p", STAGES);
    assert_eq!(ran(at, &["run", "p.yaml", "--quiet"]).0, Some(0));
    let before = figures(&record(at, "p"));
    let listed = entries(at);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|e| e["kind"] == "stage" && e["depends"]["seed"] == 3), "{listed:?}");
    assert_eq!(ran(at, &["cache", "verify"]), (Some(0), "3 entries, every byte is as it was written\n".to_string()));
    let train = listed.iter().find(|e| e["name"] == "1-train").unwrap()["key"].as_str().unwrap().to_string();
    let model = at.join("reports/.cache").join(&train).join("model.safetensors");
    let mut bytes = std::fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&model, bytes).unwrap();
    let (code, said) = ran(at, &["run", "p.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&train) && said.contains("model.safetensors is not what was written"), "{said}");
    // The stage behind it is good, and is not done again.
    assert_eq!(said.matches("from the cache").count(), 1, "{said}");
    assert_eq!(figures(&record(at, "p")), before);
    assert!(at.join("reports/.cache/damaged").join(format!("{train}-0")).is_dir());
    // Found by `verify` too, with the exit code of a failure.
    std::fs::write(&model, "nothing").unwrap();
    let (code, said) = ran(at, &["cache", "verify"]);
    assert!(code == Some(1) && said.contains("1 of 3 entries are damaged") && said.contains(&train), "{said}");
}

#[test]
fn runs_side_by_side_share_their_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_bars(at, 1500, 100);
    write_pipeline(at, "p", STAGES);
    let start = || sinter_command(at, &["run", "p.yaml"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let runs: Vec<_> = (0..4).map(|_| start()).collect();
    let said: Vec<String> = runs
        .into_iter()
        .map(|run| {
            let output = run.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
        .collect();
    // Each stage was done by one of them.
    for stage in ["1-train", "2-prune"] {
        assert_eq!(said.iter().filter(|s| s.contains(&format!("▸ {stage}"))).count(), 1, "{said:?}");
    }
    assert_eq!(ran(at, &["cache", "verify"]).0, Some(0));
}

#[test]
fn old_results_go_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write_bars(at, 200, 100);
    write_pipeline(at, "p", STAGES);
    assert_eq!(ran(at, &["run", "p.yaml", "--quiet"]).0, Some(0));
    // All are new.
    assert!(ran(at, &["cache", "prune", "--older", "30d"]).1.starts_with("0 entries removed"));
    let last = entries(at)[0]["key"].clone();
    assert!(ran(at, &["cache", "prune", "--keep-last", "1"]).1.starts_with("2 entries removed"));
    let left = entries(at);
    assert!(left.len() == 1 && left[0]["key"] == last, "{left:?}");
    assert_eq!(ran(at, &["cache", "prune", "--older", "a while"]).0, Some(2));
    assert_eq!(ran(at, &["cache", "clear"]).0, Some(0));
    assert!(!at.join("reports/.cache").exists() && entries(at).is_empty());
    assert_eq!(ran(at, &["run", "p.yaml", "--quiet"]).0, Some(0));
}
