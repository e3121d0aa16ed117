//! Quantization of real and of trained models: what it costs, and what gives it back.

use sinter_data::{DataConfig, Dataset, Order};
use sinter_estimate::{GENERIC, Target};
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{bars, normal, notes_of, parse, shared};
use sinter_model::zoo::ZooModel;
use sinter_model::{Attributes, Dim, ElementType, Mode, Model, Node, Role, ValueInfo, Weight, to_f32s};
use sinter_onnx::{Options, load};
use sinter_quantize::QuantizeConfig;
use sinter_task::evaluate;
use sinter_train::{Context, Events, FitConfig, StageError, TeacherRef, apply, fit};
use tch::{Kind, Tensor};

/// Quantizes a copy; its accuracy and what the stage said.
fn quantize(float: &Model, data: &Dataset, text: &str) -> (f64, Model, Vec<String>) {
    quantize_for(&GENERIC, float, data, text)
}

fn quantize_for(target: &Target, float: &Model, data: &Dataset, text: &str) -> (f64, Model, Vec<String>) {
    let (model, notes) = compress(target, float, data, text);
    (evaluate(&model, &data.test, data.task, None, None).unwrap().value, model, notes)
}

/// Quantizes a copy for a target; what the stage said.
fn compress(target: &Target, float: &Model, data: &Dataset, text: &str) -> (Model, Vec<String>) {
    let (quantized, notes) = notes_of(|events| try_compress(target, float, data, text, events).unwrap());
    quantized.check().unwrap();
    (quantized, notes)
}

fn try_compress(target: &Target, float: &Model, data: &Dataset, text: &str, events: Events) -> Result<Model, StageError> {
    let teacher = |_: &TeacherRef| -> Result<Model, StageError> { Ok(float.copy()) };
    let context = Context { events, teacher: &teacher, ..Context::alone(data, target) };
    apply(&parse::<QuantizeConfig>(text), float.copy(), &context)
}

/// The keyword spotter: 200 samples to calibrate, 800 to score.
#[test]
fn a_keyword_spotter_keeps_its_accuracy() {
    let Some(shared) = shared() else { return };
    let float = load(&shared.join("models/kws_ds_cnn.onnx"), &Options::default()).unwrap();
    let path = shared.join("data/kws01.npz");
    let yaml = format!("name: kws\nsource: {{ numpy: {{ path: {} }} }}\nsplit: {{ test: 80% }}", path.display());
    let data = Dataset::open(&parse::<DataConfig>(&yaml)).unwrap();
    let whole = evaluate(&float, &data.test, data.task, None, None).unwrap().value;
    for calibrate in ["min-max", "moving-average", "percentile", "entropy", "mse"] {
        let (value, _, _) = quantize(&float, &data, &format!("{{ calibrate: {calibrate}, samples: 200 }}"));
        assert!(value > whole - 0.0126, "{calibrate}: {value} of {whole}");
    }
    // Rounding to nearest loses what second-order rounding over groups keeps.
    let (three, _, _) =
        quantize(&float, &data, "{ weights: int3/channel, activations: none, rounding: nearest, correct_bias: false }");
    let (grouped, _, _) = quantize(&float, &data, "{ weights: int4/group:32, activations: none, rounding: gptq }");
    assert!(grouped > whole - 0.02 && grouped > three, "{grouped} of {whole}, {three} at three bits");
}

/// LeNet-300-100, trained a little.
fn trained(folder: &std::path::Path) -> (Dataset, Model) {
    let data = bars(folder, 512, 256, "");
    let mut model = ZooModel::Lenet300100.build(&[1, 12, 12], 4, 2).unwrap();
    fit(&mut model, &FitConfig { batch_size: 16, ..FitConfig::epochs(6) }, &Context::alone(&data, &GENERIC)).unwrap();
    (data, model)
}

/// A model whose last biases are off comes back when they are tuned, and no weight moves.
#[test]
fn tuned_biases_bring_a_model_back() {
    let folder = tempfile::tempdir().unwrap();
    let (data, mut float) = trained(folder.path());
    let last = float.layers().pop().unwrap().bias.unwrap();
    let weight = float.weight_mut(&last).unwrap();
    let moved = weight.latent().detach() + Tensor::from_slice(&[1.5f32, -1.5, 1.5, -1.5]);
    weight.set_latent(moved).unwrap();
    let (off, plain, _) = quantize(&float, &data, "{ correct_bias: false }");
    let (tuned, model, notes) = quantize(&float, &data, "{ correct_bias: false, tune_biases: true }");
    assert!(tuned > off + 0.02, "{off} to {tuned}: {notes:?}");
    assert!(notes.iter().any(|n| n.starts_with("biases tuned")), "{notes:?}");
    for layer in model.layers() {
        let of = |m: &Model| to_f32s(&m.weight(&layer.weight).unwrap().effective().unwrap()).unwrap();
        assert_eq!(of(&model), of(&plain), "{}", layer.weight);
    }
}

/// Two bits but for the first and the last layer, and training that gets used to them.
const TWO_BITS: &str =
    "weights: int2/channel, activations: uint2, layers: [{ match: 'fc[13]', weights: int8/channel, activations: uint8 }]";
const TRAINED: &str = "mode: qat, finetune: { epochs: 12, lr: 3e-3, batch_size: 16, distill: {} }";

/// The answers of the simulation and of the exported file in ONNX Runtime to the first 32 test samples.
fn answers(model: &Model, data: &Dataset, folder: &std::path::Path) -> (Tensor, Tensor) {
    let x = data.test.batches(32, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
    let path = folder.join("model.onnx");
    explicit(model).unwrap().save(&path).unwrap();
    let real = OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap();
    (tch::no_grad(|| Runner::new(model).unwrap().run(&[x], Mode::Predict)).unwrap().swap_remove(0), real)
}

/// What two bits break, training with learned scales mends.
#[test]
fn training_mends_two_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = trained(folder.path());
    let whole = evaluate(&float, &data.test, data.task, None, None).unwrap().value;
    let (broken, _, _) = quantize(&float, &data, &format!("{{ {TWO_BITS}, rounding: nearest, correct_bias: false }}"));
    let (mended, model, _) = quantize(&float, &data, &format!("{{ {TWO_BITS}, {TRAINED} }}"));
    assert!(mended > whole - 0.05, "{mended} of {whole}, {broken} without training");
    // Ranges that follow: weights of four bits train under them, and the quantizers hold what they end with.
    let following = "mode: qat, scales: moving-average, finetune: { epochs: 6, lr: 1e-3, batch_size: 16, distill: {} }";
    let (value, moved, _) = quantize(&float, &data, &format!("{{ weights: int4/channel, {following} }}"));
    let (_, calibrated, _) = quantize(&float, &data, "{ weights: int4/channel, rounding: nearest, calibrate: min-max }");
    assert!(value > whole - 0.03, "{value} of {whole}");
    let scale = |m: &Model| m.activations.values().map(|g| g.scales().unwrap()[0]).collect::<Vec<_>>();
    assert_ne!(scale(&moved), scale(&calibrated));
    // Scales are as storable as calibrated ones, and no longer learned.
    let bits = |s: &f32| s.to_bits() & 0xffff;
    for quantizer in
        model.weights.values().filter_map(|w| w.quantizer()).filter(|g| g.bits() < 32).chain(model.activations.values())
    {
        assert!(quantizer.leaf().is_none() && quantizer.scales().unwrap().iter().all(|s| bits(s) == 0));
    }
}

/// A normalisation behind each layer changes nothing at first, trains along, and is gone at the end: what the model answers is what it
/// answered before folding, and the file agrees.
#[test]
fn normalisations_of_training_are_folded() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = trained(folder.path());
    let whole = evaluate(&float, &data.test, data.task, None, None).unwrap().value;
    let (value, model, _) = quantize(&float, &data, &format!("{{ {TWO_BITS}, {TRAINED} }}"));
    let (_, bare, _) = quantize(&float, &data, &format!("{{ {TWO_BITS}, {TRAINED}, batch_norm: false }}"));
    let scales = |model: &Model| {
        model.weights.values().filter_map(|w| w.quantizer()).flat_map(|g| g.scales().unwrap()).collect::<Vec<_>>()
    };
    assert_ne!(scales(&model), scales(&bare));
    assert!(value > whole - 0.05, "{value} of {whole}");
    assert!(model.graph.nodes.iter().all(|n| n.kind() != "BatchNormalization"));
    assert_eq!(model.weights.len(), float.weights.len());
    assert!(scales(&model).into_iter().all(|s| s > 0.0));
    // Behind its quantizer a weight is still what was trained: a layer that `accuracy_drop` lifts gets it back.
    for layer in model.layers() {
        let weight = &model.weights[&layer.weight];
        let off = (weight.latent() - weight.effective().unwrap()).abs().max().double_value(&[]);
        assert!(off > 0.0, "{}", layer.name);
    }
    let (simulated, real) = answers(&model, &data, folder.path());
    let off = (&simulated - &real).abs().max().double_value(&[]);
    assert!(off < 1e-3 * simulated.abs().max().double_value(&[]), "off by {off}");
    // One scale a tensor leaves nothing that a normalisation of channels could be folded into, and the user is told.
    let brief = "mode: qat, batch_norm: true, finetune: { epochs: 1, batch_size: 16 }";
    let (_, _, notes) = quantize(&float, &data, &format!("{{ weights: int4, {brief} }}"));
    assert!(notes.iter().any(|n| n.contains("`batch_norm` finds no")), "{notes:?}");
    let (_, _, notes) = quantize(&float, &data, &format!("{{ weights: int4/channel, {brief} }}"));
    assert!(notes.iter().all(|n| !n.contains("`batch_norm` finds no")), "{notes:?}");
}

/// Layers read few bits; a shortcut past them keeps eight, as do values that no layer reads. The file says the same.
#[test]
fn shortcuts_keep_their_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (data, _) = trained(folder.path());
    let float = ZooModel::Resnet8.build(&[1, 12, 12], 4, 2).unwrap();
    let (model, notes) =
        compress(&GENERIC, &float, &data, "{ weights: int4/channel, activations: uint4, rounding: nearest, samples: 64 }");
    assert!(notes.iter().any(|n| n.contains("fewer bits by layers than by shortcuts")), "{notes:?}");
    let bits = |name: &String| model.activations.get(name).map(|g| g.bits());
    for node in &model.graph.nodes {
        match node.kind() {
            "Conv" => assert_eq!(bits(&node.inputs[0]), Some(4), "{}", node.name),
            "Add" => assert!(node.inputs.iter().all(|i| bits(i) == Some(8)), "{}", node.name),
            _ => {}
        }
    }
    // A stage that asks for eight bits everywhere needs no copies.
    let (plain, _) = compress(&GENERIC, &float, &data, "{ samples: 64 }");
    assert!(plain.graph.nodes.iter().all(|n| n.kind() != "Identity"));
    let (simulated, real) = answers(&model, &data, folder.path());
    let off = (&simulated - &real).abs().mean(Kind::Float).double_value(&[]);
    let spread = simulated.abs().max().double_value(&[]);
    assert!(spread > 0.0 && off < 0.02 * spread, "off by {off} of {spread}");
    let back = unpack(&pack(&model).unwrap().bytes).unwrap();
    assert_eq!(back.graph.nodes.len(), model.graph.nodes.len());
}

/// The guard names what it lifts and holds what it promised on the samples it measured.
#[test]
fn the_guard_lifts_the_layers_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = trained(folder.path());
    let formats = "weights: binary, activations: uint2, correct_bias: false";
    let (broken, ..) = quantize(&float, &data, &format!("{{ {formats} }}"));
    let (held, model, notes) = quantize(&float, &data, &format!("{{ {formats}, accuracy_drop: 1% }}"));
    let whole = evaluate(&float, &data.test, data.task, None, None).unwrap().value;
    assert!(broken < whole - 0.05 && held > broken && held > whole - 0.05, "{broken} {held} {whole}");
    assert!(notes.iter().any(|n| n.contains("lifted to 8 bits")), "{notes:?}");
    assert!(model.weights.values().filter_map(|w| w.quantizer()).any(|g| g.bits() == 8));
    // Where nothing is lost nothing is lifted.
    let (_, _, notes) = quantize(&float, &data, "{ accuracy_drop: 5% }");
    assert!(
        notes.iter().any(|n| n.contains("within `accuracy_drop`")) && !notes.iter().any(|n| n.contains("lifted")),
        "{notes:?}"
    );
}

/// Flatten, a normalisation with a few loud channels, and two matrix products with a ReLU between.
fn normalised() -> Model {
    let mut model = Model::default();
    let mut store = |name: &str, value: Tensor| {
        model.weights.insert(name.to_string(), Weight::new(Role::Parameter, value));
    };
    let loud = Tensor::ones([144], (Kind::Float, tch::Device::Cpu));
    let _ = loud.narrow(0, 10, 4).fill_(60.0);
    store("norm.scale", loud);
    store("norm.bias", Tensor::zeros([144], (Kind::Float, tch::Device::Cpu)));
    store("first", normal(5, &[144, 64]) * 0.1);
    store("bias", normal(6, &[64]) * 0.1);
    store("second", normal(7, &[64, 4]) * 0.2);
    let node = |kind: &str, inputs: &[&str], output: &str| {
        let inputs = inputs.iter().map(|i| i.to_string()).collect();
        Node::new(output, kind, Attributes::new(), inputs, vec![output.to_string()]).unwrap()
    };
    model.graph.nodes = vec![
        node("Flatten", &["x"], "flat"),
        node("LayerNormalization", &["flat", "norm.scale", "norm.bias"], "normal"),
        node("MatMul", &["normal", "first"], "product"),
        node("Add", &["product", "bias"], "sum"),
        node("Relu", &["sum"], "hidden"),
        node("MatMul", &["hidden", "second"], "y"),
    ];
    let value = |name: &str, shape: &[i64]| ValueInfo {
        name: name.into(),
        element: ElementType::Float,
        shape: std::iter::once(Dim::Free("batch".into())).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect(),
    };
    model.graph.inputs = vec![value("x", &[1, 12, 12])];
    model.graph.outputs = vec![value("y", &[4])];
    model
}

/// Each way of moving scale keeps the function and lowers the error that quantization leaves.
#[test]
fn moving_scale_between_layers_lowers_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let (data, _) = trained(folder.path());
    let x = data.test.batches(256, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
    let run =
        |m: &Model| tch::no_grad(|| Runner::new(m).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().swap_remove(0));
    let error =
        |a: &Tensor, b: &Tensor| ((a - b).square().mean(Kind::Double) / b.square().mean(Kind::Double)).double_value(&[]).sqrt();
    let plain = normalised();
    // The same function with hidden channels of very different size.
    let mut uneven = normalised();
    let factors = (Tensor::arange(64, (Kind::Float, tch::Device::Cpu)) / 8.0).exp2();
    for (name, shape, up) in [("first", [1, 64], true), ("bias", [64, 1], true), ("second", [64, 1], false)] {
        let latent = uneven.weights[name].latent().copy();
        let each = factors.reshape(if name == "bias" { &[64][..] } else { &shape[..] });
        let scaled = if up { latent * each } else { latent / each };
        uneven.weight_mut(name).unwrap().set_latent(scaled).unwrap();
    }
    assert!(error(&run(&uneven), &run(&plain)) < 1e-5);
    for (model, text, scaling) in [
        (&uneven, "weights: int8, activations: none", "equalize"),
        (&plain, "weights: int8/channel", "smooth"),
        (&plain, "weights: int8/channel, activations: dynamic", "smooth"),
        (&plain, "weights: int3/group:16, activations: none, rounding: nearest", "awq"),
    ] {
        let wanted = run(model);
        let (_, without, _) = quantize(model, &data, &format!("{{ {text}, scaling: [] }}"));
        let (_, with, notes) = quantize(model, &data, &format!("{{ {text} }}"));
        let (_, asked, _) = quantize(model, &data, &format!("{{ {text}, scaling: [{scaling}] }}"));
        let [without, with, asked] = [without, with, asked].map(|m| error(&run(&m), &wanted));
        println!("{text}: {without} without, {with} with {notes:?}");
        assert!(with < 0.8 * without, "{text}: {without} without, {with} with, {notes:?}");
        assert!(asked < 0.8 * without, "{text} with {scaling}: {asked}, {without} without");
    }
    // Float weights only: nothing but the scale moves.
    let (_, moved, _) = quantize(
        &uneven,
        &data,
        "{ weights: fp16, activations: none, scaling: [equalize], layers: [{ match: '*', weights: none }] }",
    );
    assert!(error(&run(&moved), &run(&uneven)) < 1e-5);
    let even = |m: &Model| m.weights["first"].effective().unwrap().abs().amax([0i64], false);
    let spread = |t: Tensor| (t.max() / t.min()).double_value(&[]);
    let (before, after) = (spread(even(&uneven)), spread(even(&moved)));
    assert!(after < 0.1 * before, "{before} {after}");
}

/// Bits are chosen under each budget, and the budget is kept.
#[test]
fn mixed_precision_keeps_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = trained(folder.path());
    let whole = evaluate(&float, &data.test, data.task, None, None).unwrap().value;
    let bits = |m: &Model| -> Vec<u8> {
        ["fc1", "fc2", "fc3"].iter().map(|l| m.weights[&format!("{l}.weight")].quantizer().unwrap().bits()).collect()
    };
    let bytes = |m: &Model| -> usize {
        let weights = ["fc1", "fc2", "fc3"].iter().map(|l| &m.weights[&format!("{l}.weight")]);
        weights.map(|w| (w.numel() * w.quantizer().unwrap().bits() as usize).div_ceil(8) + 2 * w.size()[0] as usize).sum()
    };
    let (value, small, notes) = quantize(&float, &data, "{ mixed: { widths: [8, 4, 2], size: 30 KiB }, rounding: gptq }");
    assert!(bytes(&small) <= 30 * 1024 && value > whole - 0.05, "{:?} {value} of {whole} {notes:?}", bits(&small));
    assert!(bits(&small).iter().any(|&b| b > 2) && notes.iter().any(|n| n.contains("bits chosen")), "{notes:?}");
    let (_, large, _) = quantize(&float, &data, "{ mixed: { size: 200 KiB } }");
    assert_eq!(bits(&large), [8, 8, 8]);
    let (_, held, _) = quantize(
        &float,
        &data,
        "{ mixed: { accuracy_drop: 2% }, rounding: gptq, layers: [{ match: fc3, weights: int8/channel }] }",
    );
    assert!(bits(&held)[2] == 8 && bytes(&held) < bytes(&large), "{:?}", bits(&held));
    // The floor of an inference at 8 bits, and at less than that.
    let floor = |m: &Model| sinter_estimate::costs(&sinter_estimate::footprint(m).unwrap(), &GENERIC).floor;
    let most = 0.7 * floor(&large);
    let (_, frugal, _) = quantize(&float, &data, &format!("{{ mixed: {{ energy: {:.1} nJ }}, rounding: gptq }}", most * 1e9));
    assert!(floor(&frugal) <= most && floor(&frugal) > 0.5 * most, "{} {most}", floor(&frugal));
    let fails = |text: &str| try_compress(&GENERIC, &float, &data, text, &|_| {}).unwrap_err().to_string();
    assert!(fails("{ mixed: { size: 1 KiB } }").contains("at least"));
    assert!(fails("{ mixed: {} }").contains("exactly one budget"));
    assert!(fails("{ mixed: { widths: [9], size: 1 KiB } }").contains("2 to 8 bits"));
    assert!(fails("{ weights: fp16, mixed: { size: 1 KiB } }").contains("integers"));
}

/// What the user leaves open is as the target's kernels take it, and the file computes what the simulation does.
#[test]
fn quantization_follows_the_target() {
    let folder = tempfile::tempdir().unwrap();
    let (data, _) = trained(folder.path());
    let float = ZooModel::DsCnn.build(&[1, 12, 12], 4, 3).unwrap();
    let x = data.test.batches(64, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
    let configs = sinter_fixtures::root().join("configs/targets");
    let mut seen = 0;
    for entry in std::fs::read_dir(configs).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let target: Target = serde_yaml::from_str(&text).unwrap();
        let (_, model, _) = quantize_for(&target, &float, &data, "{ samples: 64 }");
        let weights: Vec<String> = model.layers().iter().map(|l| model.weights[&l.weight].describe().unwrap()).collect();
        let activation = model.activations.values().next().unwrap().params().unwrap().describe();
        let (first, last) = (weights[0].as_str(), weights.last().unwrap().as_str());
        let wanted = match target.name.as_str() {
            "generic" | "onnxruntime-x86" => ["int8/channel", "int8/channel", "uint8"],
            // Seven bits, where pairs of products have sixteen.
            "onnxruntime-x86-avx2" => ["int7/channel", "int7/channel", "uint8"],
            "npu" => ["int8", "int8", "int8"],
            _ => ["int8/channel", "int8", "int8"],
        };
        assert_eq!([first, last, &activation], wanted, "{}", target.name);
        // After a ReLU the zero point of int8 is its lowest integer, unless the target wants it at 0.
        let centred = model.activations.values().all(|g| g.zero_points().unwrap() == [0]);
        assert_eq!(centred, activation != "int8" || target.name == "npu", "{}", target.name);
        let path = folder.path().join("model.onnx");
        explicit(&model).unwrap().save(&path).unwrap();
        let real = OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap();
        let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().swap_remove(0));
        let off = (&ours - &real).abs().mean(Kind::Float).double_value(&[]);
        assert!(off < 0.02 * ours.abs().max().double_value(&[]), "{}: off by {off}", target.name);
        // What the user says stands.
        let (_, own, _) = quantize_for(&target, &float, &data, "{ weights: int4/channel, activations: none, rounding: nearest }");
        assert!(own.activations.is_empty());
        assert!(own.layers().iter().all(|l| own.weights[&l.weight].quantizer().unwrap().bits() == 4));
        seen += 1;
    }
    assert!(seen >= 6);
}
