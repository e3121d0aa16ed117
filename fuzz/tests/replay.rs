//! Every file that once was too much, and a few hundred new ones a kind.

use std::path::Path;

use arbitrary::Unstructured;
use sinter_fuzz::{TARGETS, Target, panics};

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|t| t.name == name).unwrap()
}

/// Runs past faults, then what bolero makes up.
fn check(name: &str, iterations: usize) {
    let target = target(name);
    sinter_model::set_memory_limit(sinter_model::Bytes(256 << 20));
    let run = |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        (target.run)(bytes, folder.path());
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    for entry in std::fs::read_dir(corpus).into_iter().flatten().flatten() {
        let before = panics();
        run(&std::fs::read(entry.path()).unwrap());
        assert_eq!(panics(), before, "{}: a panic became an error", entry.path().display());
    }
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    bolero::check!().with_iterations(iterations).with_max_len(512).for_each(|noise: &[u8]| {
        let mut u = Unstructured::new(noise);
        let Ok(seed) = u.choose(&seeds) else { return };
        if let Ok(bytes) = (target.mutate)(seed, &mut u) {
            run(&bytes);
        }
    });
}

macro_rules! replay {
    ($($name:ident: $target:literal, $iterations:literal;)*) => {
        $(#[test]
        fn $name() {
            check($target, $iterations);
        })*
    };
}

replay! {
    onnx_models: "onnx", 150;
    packed_files: "packed", 150;
    npz_archives: "npz", 200;
    npy_arrays: "npy", 200;
    idx_files: "idx", 200;
    csv_tables: "csv", 200;
    images: "image", 200;
    recordings: "wav", 200;
    configurations: "config", 150;
    indices: "index", 100;
    weights: "safetensors", 150;
    tokenizers: "tokenizer", 40;
    pipelines: "pipeline", 60;
    pipelines_upon_others: "extends", 60;
    changes: "set", 60;
    data_files: "data", 60;
    targets: "target", 60;
}
