//! What people read: plans and refusals, word by word.

use sinter_fixtures::{ALL_STAGES, sinter, write_bars, write_pipeline};

/// Keys of results change with every version.
fn without_keys(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once("  [") {
        Some((head, key)) if key.len() == 25 => format!("{head}  [KEY]"),
        _ => line.to_string(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_is_told_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 300, 100);
    write_pipeline(folder.path(), "all", ALL_STAGES);
    let output = sinter(folder.path(), &["plan", "all.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    insta::assert_snapshot!("plan", without_keys(&String::from_utf8_lossy(&output.stdout)));
    assert!(!folder.path().join("reports").exists(), "a plan writes nothing");
}

/// One wrong pipeline of each kind: a key, a name, a value, a choice that does not fit the model, an export that can't be.
#[test]
fn refusals_say_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 40, 20);
    let mut said = String::new();
    for text in [
        "stages:\n  - train: { epoch: 8 }\n",
        "stages:\n  - quantize: { calibrate: { percentil: { outside: 1% } } }\n",
        "stages:\n  - quantize: { calibrate: { percentile: { outsid: 1% } } }\n",
        "stages:\n  - prune: { structured: { ratio: half } }\n",
        "stages:\n  - prune: { unstructured: { sparsity: 50%, layers: [{ match: \"fc4\", ratio: 10% }] } }\n",
        "metric: auc\nstages: []\n",
        "stages:\n  - train: { epochs: 1 }\nexport: [c]\n",
    ] {
        write_pipeline(folder.path(), "wrong", text);
        let output = sinter(folder.path(), &["plan", "wrong.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        said += &String::from_utf8_lossy(&output.stderr);
        said += "\n";
    }
    insta::assert_snapshot!("refusals", said);
}
