//! One weight that several layers read: as it is, or the other way round. Whatever is done to it, both read the same values, the exported file runs as
//! the simulation does, and the weight is stored once.

use sinter_data::Dataset;
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{Sketch, normal, parse, write_npz};
use sinter_model::{Attributes, Mode, Model};
use sinter_pipeline::StageConfig;
use sinter_train::{Context, apply};

fn data(shape: &[i64]) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    let x = normal(5, &[&[60], shape].concat());
    write_npz(&path, &x, (0..60).map(|i| i % 3));
    Dataset::open(&parse(&format!("name: d\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap()
}

/// Models in which one weight has two readers, by how.
fn models() -> Vec<(&'static str, Vec<i64>, Model)> {
    let none = Attributes::new;
    let mut all = Vec::new();
    for (name, kind, attributes) in [
        ("MatMul twice", "MatMul", none()),
        ("Gemm twice", "Gemm", none()),
        ("Gemm twice, transposed", "Gemm", none().int("transB", 1)),
    ] {
        let mut s = Sketch::new(&[8]);
        s.weight("w", &[8, 8]).node(kind, attributes.clone(), &["x", "w"], "a").node("Relu", none(), &["a"], "r");
        s.node(kind, attributes, &["r", "w"], "y");
        all.push((name, vec![8], s.finish()));
    }
    for (name, first, second) in [
        ("MatMul either way", "MatMul", ("MatMul", none().int("transB", 1))),
        ("Gemm either way", "Gemm", ("Gemm", none().int("transB", 1))),
        ("MatMul and Gemm", "MatMul", ("Gemm", none().int("transB", 1))),
    ] {
        let mut s = Sketch::new(&[8]);
        s.weight("w", &[8, 16]).node(first, none(), &["x", "w"], "a").node("Relu", none(), &["a"], "r");
        s.node(second.0, second.1, &["r", "w"], "y");
        all.push((name, vec![8], s.finish()));
    }
    let mut s = Sketch::new(&[4, 6, 6]);
    let same = || none().ints("pads", &[1, 1, 1, 1]);
    s.weight("w", &[4, 4, 3, 3]).node("Conv", same(), &["x", "w"], "a").node("Relu", none(), &["a"], "r");
    s.node("Conv", same(), &["r", "w"], "b").node("Flatten", none(), &["b"], "y");
    all.push(("Conv twice", vec![4, 6, 6], s.finish()));
    all
}

/// Seven bits, whose products no x86 saturates: ONNX Runtime's exact sums are not to be had where weights are shared.
const STAGES: [&str; 9] = [
    "quantize: { weights: int7/channel }",
    "quantize: { weights: int7 }",
    "quantize: { activations: dynamic, weights: int7/channel }",
    "quantize: { activations: dynamic, weights: int7 }",
    "quantize: { weights: int4/channel, activations: none }",
    "quantize: { weights: int4/group:4, activations: none }",
    "quantize: { weights: fp16, activations: none }",
    "cluster: { centroids: 8 }",
    "prune: { unstructured: { sparsity: 50% } }",
];

#[test]
fn shared_weights_stay_one() {
    let folder = tempfile::tempdir().unwrap();
    for (name, shape, float) in models() {
        let data = data(&shape);
        let x = normal(6, &[&[5], &shape[..]].concat());
        for stage in STAGES {
            let config = parse::<StageConfig>(stage);
            let model = match apply(config.stage(), float.copy(), &Context::alone(&data, &GENERIC)) {
                Ok(model) => model,
                Err(error) => panic!("{name}, {stage}: {error}"),
            };
            model.check().unwrap();
            let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
            let path = folder.path().join("m.onnx");
            let file = explicit(&model).unwrap();
            file.save(&path).unwrap();
            let theirs = OnnxRuntime::open(&path)
                .and_then(|mut r| r.run(std::slice::from_ref(&x)))
                .unwrap_or_else(|e| panic!("{name}, {stage}: {e}"));
            let apart = (&ours - &theirs).abs().max().double_value(&[]);
            let size = ours.abs().max().double_value(&[]);
            assert!(apart <= 0.02 * size, "{name}, {stage}: {apart} of {size}");
            // Stored once: one tensor of its size.
            let count = float.weights["w"].numel();
            let stored: Vec<&String> = file.model.weights.iter().filter(|(_, w)| w.numel() == count).map(|(n, _)| n).collect();
            assert_eq!(stored.len(), 1, "{name}, {stage}: {stored:?}");
            let back = unpack(&pack(&model).unwrap().bytes).unwrap();
            let again = tch::no_grad(|| Runner::new(&back).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
            assert_eq!(again, ours, "{name}, {stage}: packed");
        }
    }
}

/// A matrix and its Transpose, as exporters write them, are one parameter after reading; so is a matrix under another name.
#[test]
fn transposes_and_other_names_are_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let none = Attributes::new;
    for (rank, shape) in [(2, vec![8i64]), (3, vec![3, 8])] {
        let mut s = Sketch::new(&shape);
        s.weight("w", &[8, 16]).node("MatMul", none(), &["x", "w"], "a").node("Relu", none(), &["a"], "r");
        s.node("Transpose", none().ints("perm", &[1, 0]), &["w"], "t").node("Identity", none(), &["w"], "same");
        s.node("MatMul", none(), &["r", "t"], "b").node("MatMul", none(), &["b", "same"], "y");
        let float = s.finish();
        let path = folder.path().join("m.onnx");
        sinter_onnx::save(&float, &path, sinter_onnx::Storage::Inside).unwrap();
        let read = sinter_onnx::load(&path, &sinter_onnx::Options::default()).unwrap();
        assert_eq!(read.parameters(), 128, "of rank {rank}: {:?}", read.weights.keys());
        assert_eq!(read.uses("w").len(), 3);
        let x = normal(6, &[&[5], &shape[..]].concat());
        let run =
            |m: &Model| tch::no_grad(|| Runner::new(m).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
        assert!((run(&float) - run(&read)).abs().max().double_value(&[]) < 1e-5);
        sinter_onnx::save(&read, &path, sinter_onnx::Storage::Inside).unwrap();
        let theirs = OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap();
        assert!((theirs - run(&read)).abs().max().double_value(&[]) < 1e-4);
    }
}

/// Features that were zero leave a layer normalisation with the mean and variance that the others had beside them.
#[test]
fn removed_features_still_count() {
    let folder = tempfile::tempdir().unwrap();
    let none = Attributes::new;
    let data = data(&[8]);
    let mut s = Sketch::new(&[8]);
    s.weight("w1", &[8, 16]).weight("b1", &[16]).weight("g", &[16]).weight("h", &[16]).weight("w2", &[16, 3]);
    s.node("Gemm", none(), &["x", "w1", "b1"], "a").node("Relu", none(), &["a"], "r");
    s.node("LayerNormalization", none().int("axis", -1), &["r", "g", "h"], "n").node("MatMul", none(), &["n", "w2"], "y");
    let mut float = s.finish();
    for name in ["w1", "b1"] {
        let weight = float.weight_mut(name).unwrap();
        let planted = weight.latent().copy();
        let last = planted.dim() as i64 - 1;
        let _zero = planted.narrow(last, 3, 4).zero_();
        weight.set_latent(planted).unwrap();
    }
    // What such a feature gives behind the normalisation must be nothing too, or it is not dead.
    let weight = float.weight_mut("w2").unwrap();
    let planted = weight.latent().copy();
    let _zero = planted.narrow(0, 3, 4).zero_();
    weight.set_latent(planted).unwrap();
    let config = parse::<StageConfig>("prune: { structured: { ratio: 25%, refit: false } }");
    let pruned = apply(config.stage(), float.copy(), &Context::alone(&data, &GENERIC)).unwrap();
    assert_eq!(pruned.weights["w1"].size(), [8, 12]);
    let x = normal(7, &[7, 8]);
    let run = |m: &Model| tch::no_grad(|| Runner::new(m).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0);
    assert!((run(&float) - run(&pruned)).abs().max().double_value(&[]) < 1e-4);
    let path = folder.path().join("m.onnx");
    sinter_onnx::save(&pruned, &path, sinter_onnx::Storage::Inside).unwrap();
    let theirs = OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap();
    assert!((theirs - run(&float)).abs().max().double_value(&[]) < 1e-4);
}
