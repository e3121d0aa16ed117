//! Operators that stay in float because integers are slower: the file computes them so, and answers as the simulation does.

use sinter_data::Dataset;
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{Sketch, noise, normal, notes_of, parse};
use sinter_model::{Attributes, Mode, Model};
use sinter_pipeline::StageConfig;
use sinter_train::{Context, StageError, apply};

/// Three convolutions, the middle one depthwise, with activations between them.
fn model() -> Model {
    let mut s = Sketch::new(&[8, 12, 12]);
    let padded = || Attributes::new().ints("pads", &[1, 1, 1, 1]);
    s.weight("w1", &[16, 8, 3, 3]).node("Conv", padded(), &["x", "w1"], "a").node("Relu", Attributes::new(), &["a"], "b");
    s.weight("w2", &[16, 1, 3, 3]).node("Conv", padded().int("group", 16), &["b", "w2"], "c");
    s.node("Relu", Attributes::new(), &["c"], "d");
    s.weight("w3", &[8, 16, 1, 1]).node("Conv", Attributes::new(), &["d", "w3"], "e");
    s.node("Relu", Attributes::new(), &["e"], "f").node("GlobalAveragePool", Attributes::new(), &["f"], "y");
    s.finish()
}

fn quantized(model: Model, stage: &str, data: &Dataset) -> Result<(Model, Vec<String>), StageError> {
    let stage: StageConfig = parse(&format!("quantize: {stage}"));
    let (done, notes) = notes_of(|events| apply(stage.stage(), model, &Context { events, ..Context::alone(data, &GENERIC) }));
    Ok((done?, notes))
}

#[test]
fn a_layer_among_integers_stays_in_float() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    let mut float = model();
    float.graph.nodes[2].in_float = true;
    let (result, _) = quantized(float, "{}", &data).unwrap();
    // Its neighbours read and give integers all the same, and its weight is still one of eight bits.
    assert!(["x", "b", "d"].iter().all(|v| result.activations.contains_key(*v)), "{:?}", result.activations.keys());
    assert_eq!(result.weights["w2"].quantizer().unwrap().bits(), 8);
    let kept = unpack(&pack(&result).unwrap().bytes).unwrap();
    assert!(kept.graph.nodes[2].in_float && !kept.graph.nodes[0].in_float);

    let (kernels, off) = run(&result);
    let count = |kinds: &[&str]| kernels.iter().filter(|k| kinds.contains(&k.as_str())).count();
    assert_eq!((count(&["QLinearConv"]), count(&["Conv", "FusedConv"])), (2, 1), "{kernels:?}");
    assert!(off < 0.02, "{off}");
}

/// The kernels of a file by kind, and how far the file is from the simulation as a share of the largest output.
fn run(result: &Model) -> (Vec<String>, f64) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    explicit(result).unwrap().save(&file).unwrap();
    let x = normal(3, &[1, 8, 12, 12]);
    let kernels = OnnxRuntime::profile(&file, &[x.shallow_clone()], 3).unwrap();
    let ours = Runner::new(result).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().remove(0);
    let theirs = OnnxRuntime::open(&file).unwrap().run(&[x]).unwrap();
    let off = (&ours - theirs).abs().max().double_value(&[]) / ours.abs().max().double_value(&[]);
    (kernels.into_iter().map(|k| k.kind).collect(), off)
}

#[test]
fn a_layer_of_float_weights_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    for (stage, integer) in [
        ("{ layers: [{ match: w2, weights: none }] }", 2),
        ("{ layers: [{ match: w2, weights: fp16 }, { match: w3, weights: none }] }", 1),
        ("{ layers: [{ match: 'w*', weights: none }] }", 0),
    ] {
        let (result, _) = quantized(model(), stage, &data).unwrap();
        let (kernels, off) = run(&result);
        assert_eq!(kernels.iter().filter(|k| *k == "QLinearConv").count(), integer, "{stage}: {kernels:?}");
        assert!(off < 0.02, "{stage}: {off}");
        // Sums before an activation are rounded for nobody.
        assert!(!result.activations.contains_key("c"), "{stage}: {:?}", result.activations.keys());
        assert!(integer > 0 || !["b", "d", "e"].iter().any(|v| result.activations.contains_key(*v)), "{stage}");
    }
}

#[test]
fn arithmetic_among_integers_stays_in_float() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    for kind in ["Add", "Mul", "Concat"] {
        let mut s = Sketch::new(&[8, 12, 12]);
        let padded = || Attributes::new().ints("pads", &[1, 1, 1, 1]);
        s.weight("w1", &[8, 8, 3, 3]).weight("w2", &[8, 8, 3, 3]);
        s.node("Conv", padded(), &["x", "w1"], "a").node("Conv", padded(), &["x", "w2"], "b");
        let attributes = if kind == "Concat" { Attributes::new().int("axis", 1) } else { Attributes::new() };
        s.node(kind, attributes, &["a", "b"], "c");
        s.weight("w3", &[4, if kind == "Concat" { 16 } else { 8 }, 1, 1]).node("Conv", Attributes::new(), &["c", "w3"], "y");
        let mut float = s.finish();
        float.graph.nodes[2].in_float = true;
        let (result, _) = quantized(float, "{}", &data).unwrap();
        let (kernels, off) = run(&result);
        // The last one gives a real number: its kernel is one of floats.
        let integers = kernels.iter().filter(|k| k.starts_with("QLinear")).count();
        assert!(kernels.iter().any(|k| k == kind) && integers == 2, "{kernels:?}");
        assert!(off < 0.03, "{kind}: {off}");
    }
}

#[test]
fn a_transposed_convolution_of_float_weights_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    let mut s = Sketch::new(&[8, 12, 12]);
    s.weight("w1", &[8, 8, 1, 1]).weight("up", &[8, 4, 2, 2]).weight("w2", &[4, 8, 1, 1]);
    s.node("Conv", Attributes::new(), &["x", "w1"], "a").node("Relu", Attributes::new(), &["a"], "b");
    s.node("Conv", Attributes::new(), &["b", "w2"], "c");
    s.node("ConvTranspose", Attributes::new().ints("strides", &[2, 2]), &["b", "up"], "d");
    s.node("GlobalAveragePool", Attributes::new(), &["c"], "e").node("Add", Attributes::new(), &["d", "e"], "y");
    let float = s.finish();
    // Weights of which one is far larger than the others would suffer from one scale for all.
    let value = float.weights["up"].latent().shallow_clone();
    let _ = value.get(0).get(0).get(0).get(0).fill_(40.0);
    let (result, _) = quantized(float, "{ layers: [{ match: up, weights: none }] }", &data).unwrap();
    let (_, off) = run(&result);
    assert!(off < 2e-3, "{off}");
}

#[test]
fn what_was_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    let mut float = model();
    float.graph.nodes[2].in_float = true;
    float.graph.nodes[3].in_float = true;
    let (result, _) = quantized(float, "{}", &data).unwrap();
    let file = folder.path().join("model.onnx");
    explicit(&result).unwrap().save(&file).unwrap();
    let read = sinter_onnx::load(&file, &sinter_onnx::Options::default()).unwrap();
    let back = sinter_certify::absorb(&read).unwrap();
    assert_eq!(back.activations.len(), result.activations.len(), "{:?}", back.activations.keys());
}

#[test]
fn what_is_fastest_is_chosen_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    let (result, notes) = quantized(model(), "{ latency: true }", &data).unwrap();
    let told = notes.iter().find(|n| n.contains("operators that could be integers")).unwrap_or_else(|| panic!("{notes:?}"));
    let float = result.graph.nodes.iter().filter(|n| n.in_float).count();
    assert!(told.starts_with(&format!("{float} of ")), "{told}");
    // Whatever this machine is fast at: no activation is parted from the layer that it runs with.
    let nodes = &result.graph.nodes;
    for (layer, activation) in [(0, 1), (2, 3), (4, 5)] {
        assert_eq!(nodes[layer].in_float, nodes[activation].in_float, "{}", nodes[layer].name);
    }
}

#[test]
fn what_can_not_be_timed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = noise(folder.path(), &[8, 12, 12]);
    for (stage, wanted) in [
        ("{ latency: true, activations: dynamic }", "`latency` chooses where calibrated integers are read"),
        ("{ latency: true, activations: none }", "`latency` chooses where calibrated integers are read"),
    ] {
        let refused = quantized(model(), stage, &data).unwrap_err().to_string();
        assert!(refused.contains(wanted), "{stage}: {refused}");
    }
}
