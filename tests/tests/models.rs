//! Whole models: the zoo and real trained files, against ONNX Runtime; structured pruning on every architecture; quantized export.

use sinter_data::{DataConfig, Dataset};
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{bars, normal, parse, random, shared, uniform};
use sinter_model::zoo::ZooModel;
use sinter_model::{Mode, Model, fold_batch_norm, insert_batch_norm};
use sinter_onnx::{Options, Storage, load, save};
use sinter_prune::{PruneConfig, channels, remove_channels};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, Stage, StageError, apply};
use tch::{Device, Kind, Tensor};

fn build(zoo: ZooModel) -> Model {
    zoo.build(&zoo.default_input(), zoo.default_classes(), 5).unwrap()
}

fn samples(model: &Model, count: i64) -> Tensor {
    normal(9, &model.graph.inputs[0].concrete(count))
}

fn predict(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict).unwrap().swap_remove(0))
}

fn in_runtime(model: &Model, x: &Tensor) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    save(model, &path, Storage::Inside).unwrap();
    OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(x)).unwrap()
}

/// What ONNX Runtime makes of the exported file.
fn exported(model: &Model, x: &Tensor) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    explicit(model).unwrap().save(&path).unwrap();
    OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(x)).unwrap()
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    a.size() == b.size() && a.allclose(b, tolerance, tolerance, false)
}

/// Gives normalisation statistics that are not trivial.
fn shake(model: &mut Model) {
    for weight in model.weights.values_mut().filter(|w| w.role == sinter_model::Role::Statistic) {
        let value = weight.latent() + uniform(7, &weight.size()) * 0.5;
        weight.set_latent(value).unwrap();
    }
}

#[test]
fn the_zoo_has_the_published_sizes() {
    let parameters = |z: ZooModel| build(z).parameters();
    assert_eq!(parameters(ZooModel::Lenet300100), 266_610);
    assert_eq!(parameters(ZooModel::Lenet5), 431_080);
    // MACs of the MLPerf Tiny references.
    let macs = |z: ZooModel| sinter_exec::macs(&build(z)).unwrap();
    assert_eq!(macs(ZooModel::DsCnn), 2_656_768);
    assert_eq!(macs(ZooModel::Resnet8), 12_501_632);
    assert_eq!(macs(ZooModel::MobilenetV1), 7_489_664);
    assert_eq!(macs(ZooModel::Autoencoder), 264_192);
}

#[test]
fn the_zoo_agrees_with_onnx_runtime() {
    for zoo in ZooModel::ALL {
        let mut model = build(zoo);
        shake(&mut model);
        let x = samples(&model, 3);
        assert!(close(&predict(&model, &x), &in_runtime(&model, &x), 1e-4), "{}", zoo.name());
        // Exported, read and run again: the same function.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        save(&model, &path, Storage::Beside).unwrap();
        let back = load(&path, &Options::default()).unwrap();
        assert!(close(&predict(&model, &x), &predict(&back, &x), 1e-5), "{}", zoo.name());
        // Folding the normalisations changes nothing.
        let mut folded = model.copy();
        fold_batch_norm(&mut folded).unwrap();
        assert!(folded.graph.nodes.iter().all(|n| n.kind() != "BatchNormalization"), "{}", zoo.name());
        let (a, b) = (predict(&model, &x), predict(&folded, &x));
        assert!(close(&a, &b, 1e-3), "{}: {}", zoo.name(), (&a - &b).abs().max().double_value(&[]));
    }
}

#[test]
fn real_models_agree_with_onnx_runtime() {
    let Some(shared) = shared() else { return };
    for (file, input) in [("kws_ds_cnn.onnx", "kws01.npz"), ("ic_resnet8.onnx", "cifar10-images.tar")] {
        let path = shared.join("models").join(file);
        let model = load(&path, &Options::default()).unwrap();
        let source = match input.ends_with("npz") {
            true => format!("numpy: {{ path: {} }}", shared.join("data").join(input).display()),
            false => format!("images: {{ path: {} }}", shared.join("data").join(input).display()),
        };
        let config: DataConfig =
            parse(&format!("name: d\nsource: {{ {source} }}\nnormalize: {{ divide: 1 }}\nsplit: {{ limit_test: 400 }}"));
        let data = Dataset::open(&config).unwrap();
        let batch = data.test.batches(64, sinter_data::Order::Stored).next().unwrap().unwrap();
        let ours = predict(&model, batch.x());
        let theirs = OnnxRuntime::open(&path).unwrap().run(&batch.inputs).unwrap();
        assert!(close(&ours, &theirs, 1e-4), "{file}: {}", (&ours - &theirs).abs().max().double_value(&[]));
        // The published accuracy, give or take the sampling error of 400 (or 200) samples.
        let quality = sinter_task::evaluate(&model, &data.test, data.task, None, None).unwrap();
        let published = if file.starts_with("kws") { 0.913 } else { 0.755 };
        assert!((quality.value - published).abs() < 0.08, "{file}: {}", quality.value);
    }
}

#[test]
fn every_architecture_shrinks_and_still_runs_everywhere() {
    for zoo in ZooModel::ALL {
        let mut model = build(zoo);
        shake(&mut model);
        let before = sinter_exec::macs(&model).unwrap();
        let groups = channels::groups(&model).unwrap();
        let half: Vec<_> = groups.iter().flat_map(|g| &g.channels[..g.channels.len() / 2]).collect();
        remove_channels(&mut model, &half).unwrap();
        let after = sinter_exec::macs(&model).unwrap();
        assert!((after as f64) < 0.6 * before as f64, "{}: {before} to {after}", zoo.name());
        let x = samples(&model, 2);
        assert!(close(&predict(&model, &x), &in_runtime(&model, &x), 1e-4), "{}", zoo.name());
    }
}

#[test]
fn residual_connections_tie_their_channels_together() {
    let model = build(ZooModel::Resnet8);
    let groups = channels::groups(&model).unwrap();
    let tied = |layer: &str| groups.iter().find(|g| g.layers.iter().any(|l| l == layer)).unwrap();
    assert_eq!(tied("conv1").layers, ["conv1", "stage1.conv2"]);
    assert_eq!(tied("stage2.conv2").layers, ["stage2.conv2", "stage2.skip"]);
    assert_eq!(tied("stage1.conv1").layers, ["stage1.conv1"]);
    // Depthwise layers follow what is before them.
    let model = build(ZooModel::DsCnn);
    let groups = channels::groups(&model).unwrap();
    let first = groups.iter().find(|g| g.layers.contains(&"conv1".to_string())).unwrap();
    assert_eq!(first.layers, ["conv1", "block1.depthwise"]);
    // The classifier's outputs are never offered.
    assert!(groups.iter().all(|g| !g.layers.contains(&"fc".to_string())));
}

/// Removing a channel that is zero everywhere must not change the function.
#[test]
fn removing_dead_channels_changes_nothing() {
    for zoo in [ZooModel::Lenet5, ZooModel::Resnet8, ZooModel::DsCnn, ZooModel::Lenet300100] {
        let mut model = build(zoo);
        let groups = channels::groups(&model).unwrap();
        let doomed: Vec<_> = groups.iter().flat_map(|g| &g.channels[..g.channels.len() / 3]).collect();
        for unit in doomed.iter().flat_map(|c| &c.units) {
            if let Some(weight) = model.weights.get_mut(&unit.name).filter(|w| w.role == sinter_model::Role::Parameter) {
                let index = Tensor::from_slice(&[unit.index as i64]);
                let value = weight.latent().index_fill(unit.axis as i64, &index, 0.0);
                weight.set_latent(value).unwrap();
            }
        }
        let x = samples(&model, 2);
        let before = predict(&model, &x);
        remove_channels(&mut model, &doomed).unwrap();
        assert!(close(&before, &predict(&model, &x), 1e-4), "{}", zoo.name());
    }
}

/// A stage by itself, on samples of the right shape.
fn compressed(stage: &dyn Stage, zoo: ZooModel, model: &Model) -> Result<Model, StageError> {
    let folder = tempfile::tempdir().unwrap();
    let data = match model.graph.inputs[0].concrete(1).as_slice() {
        [_, 1, 12, 12] => bars(folder.path(), 64, 16, ""),
        shape => random(folder.path(), &shape[1..], 64, zoo.default_classes()),
    };
    apply(stage, model.copy(), &Context::alone(&data, &GENERIC))
}

#[test]
fn quantized_models_agree_with_onnx_runtime() {
    for zoo in [ZooModel::Lenet300100, ZooModel::Resnet8, ZooModel::DsCnn, ZooModel::MobilenetV1] {
        let mut model = build(zoo);
        if zoo == ZooModel::Lenet300100 {
            model = zoo.build(&[1, 12, 12], 4, 5).unwrap();
        } else if zoo != ZooModel::MobilenetV1 {
            // Through its 27 layers a disturbed random MobileNet leaves nothing but zeros.
            shake(&mut model);
        }
        let config: QuantizeConfig = parse("{}");
        let quantized = compressed(&config, zoo, &model).unwrap();
        quantized.check().unwrap();
        let x = samples(&quantized, 16);
        let (simulated, real) = (predict(&quantized, &x), exported(&quantized, &x));
        // Integer kernels round sums that the simulation adds in float: a step here and there, never a different answer.
        let spread = simulated.abs().max().double_value(&[]);
        let off = (&simulated - &real).abs().mean(Kind::Float).double_value(&[]);
        assert!(spread > 0.0 && off < 0.02 * spread, "{}: off by {off} of {spread}", zoo.name());
        // And the packed file gives back every weight bit for bit, with its chain.
        let back = unpack(&pack(&quantized).unwrap().bytes).unwrap();
        for (name, weight) in &quantized.weights {
            assert_eq!(weight.effective().unwrap(), back.weights[name].effective().unwrap(), "{name}");
            assert_eq!(weight.describe().unwrap(), back.weights[name].describe().unwrap(), "{name}");
        }
        assert!(close(&simulated, &predict(&back, &x), 1e-6), "{}", zoo.name());
        // A second time is refused.
        assert!(compressed(&config, zoo, &quantized).unwrap_err().to_string().contains("already quantized"));
    }
}

/// Every number format, granularity and rounding: the exported file computes what the simulation does, and the packed file gives it back.
#[test]
fn every_format_agrees_with_onnx_runtime() {
    let cases = [
        (
            ZooModel::DsCnn,
            "{ weights: int4/channel, activations: uint4, layers: [{ match: conv1, weights: int8/channel, activations: uint8 }] }",
        ),
        (ZooModel::DsCnn, "{ weights: int2/channel, activations: uint2, rounding: nearest, calibrate: entropy }"),
        (ZooModel::DsCnn, "{ weights: ternary/channel, rounding: nearest, calibrate: moving-average }"),
        (
            ZooModel::DsCnn,
            "{ weights: binary/channel, calibrate: percentile, layers: [{ match: fc, weights: none, activations: none }] }",
        ),
        (ZooModel::DsCnn, "{ weights: int3, activations: int8, rounding: gptq, calibrate: min-max }"),
        (ZooModel::Lenet300100, "{ weights: int4/group:32, activations: none, rounding: gptq }"),
        (ZooModel::Lenet300100, "{ weights: fp16, activations: none }"),
        (ZooModel::Lenet300100, "{ weights: bf16, activations: dynamic }"),
        (ZooModel::Lenet300100, "{ weights: uint4/group:32, activations: none }"),
        (ZooModel::DsCnn, "{ weights: uint8/channel, activations: none }"),
        (ZooModel::DsCnn, "{ activations: dynamic }"),
        (ZooModel::DsCnn, "{ weights: int8, activations: symmetric8 }"),
        (ZooModel::DsCnn, "{ weights: int4/group:5, activations: uint8, rounding: gptq }"),
    ];
    for (zoo, text) in cases {
        let config: QuantizeConfig = parse(text);
        let model = if zoo == ZooModel::DsCnn { build(zoo) } else { zoo.build(&[1, 12, 12], 4, 5).unwrap() };
        let quantized = compressed(&config, zoo, &model).unwrap();
        quantized.check().unwrap();
        let x = samples(&quantized, 8);
        let (simulated, real) = (predict(&quantized, &x), exported(&quantized, &x));
        let spread = simulated.abs().max().double_value(&[]);
        let off = (&simulated - &real).abs().mean(Kind::Float).double_value(&[]);
        assert!(spread > 0.0 && off < 0.02 * spread, "{text}: off by {off} of {spread}");
        let back = unpack(&pack(&quantized).unwrap().bytes).unwrap();
        for (name, weight) in &quantized.weights {
            assert_eq!(weight.effective().unwrap(), back.weights[name].effective().unwrap(), "{text}: {name}");
            assert_eq!(weight.describe().unwrap(), back.weights[name].describe().unwrap(), "{text}: {name}");
        }
    }
}

#[test]
fn free_names_are_nobody_elses() {
    let model = build(ZooModel::Resnet8);
    let taken = [&model.graph.inputs[0].name, &model.graph.nodes[0].outputs[0], model.weights.keys().next().unwrap()];
    assert!(taken.into_iter().all(|name| model.free_name(name) != *name));
    assert_eq!(model.free_name("nobody"), "nobody");
}

/// A normalisation put behind a layer changes nothing; folded, whatever it has become, it leaves the layer's integers as they are.
#[test]
fn normalisations_go_into_scales() {
    let config: QuantizeConfig = parse("{ weights: int4/channel, activations: none, rounding: nearest }");
    let mut model = compressed(&config, ZooModel::Resnet8, &build(ZooModel::Resnet8)).unwrap();
    let x = samples(&model, 4);
    let before = predict(&model, &x);
    let integers = |model: &Model| -> Vec<Tensor> {
        let quantizers = model.layers().into_iter().map(|l| (model.weights[&l.weight].effective().unwrap(), l.weight));
        quantizers.map(|(w, name)| model.weights[&name].quantizer().unwrap().quantize(&w).unwrap()).collect()
    };
    let q = integers(&model);
    let layers: Vec<_> = model.layers().into_iter().filter(|l| model.graph.nodes[l.node].kind() == "Conv").collect();
    for layer in layers.iter().rev() {
        let channels = model.weights[&layer.weight].size()[0];
        let (mean, variance) = (normal(2, &[channels]), uniform(3, &[channels]));
        let was = predict(&model, &x);
        let scale = insert_batch_norm(&mut model, layer, &mean, &(variance + 0.1)).unwrap();
        assert!(close(&predict(&model, &x), &was, 1e-4), "{}", layer.name);
        let moved = model.weights[&scale].latent() * (uniform(4, &[channels]) + 0.5);
        model.weight_mut(&scale).unwrap().set_latent(moved).unwrap();
    }
    let moved = predict(&model, &x);
    assert!(!close(&moved, &before, 1e-2));
    assert_eq!(fold_batch_norm(&mut model).unwrap(), layers.len());
    assert!(close(&predict(&model, &x), &moved, 1e-4));
    assert_eq!(integers(&model), q);
    // A scale below zero has no quantizer to go into.
    let last = model.layers().into_iter().find(|l| model.graph.nodes[l.node].kind() == "Conv").unwrap();
    let ones = Tensor::ones([model.weights[&last.weight].size()[0]], (Kind::Float, Device::Cpu));
    let scale = insert_batch_norm(&mut model, &last, &ones, &ones).unwrap();
    model.weight_mut(&scale).unwrap().set_latent(-ones).unwrap();
    assert!(fold_batch_norm(&mut model).unwrap_err().to_string().contains("factors are positive"));
}

#[test]
fn global_and_random_pruning_run_on_residual_graphs() {
    for text in [
        "structured: { ratio: 40%, scope: global, criterion: bn-scale }",
        "structured: { ratio: 40%, criterion: random }",
        "structured: { ratio: 40%, criterion: taylor }",
    ] {
        let config: PruneConfig = parse(text);
        let model = build(ZooModel::Resnet8);
        let before = model.parameters();
        let pruned = compressed(&config, ZooModel::Resnet8, &model).unwrap();
        let x = samples(&pruned, 2);
        assert!(close(&predict(&pruned, &x), &in_runtime(&pruned, &x), 1e-4), "{text}");
        assert!((pruned.parameters() as f64) < 0.75 * before as f64, "{text}: {}", pruned.parameters());
    }
}

/// Where layers compete by magnitude, one with small weights (as inputs from 0 to 255 make them) must not vanish.
#[test]
fn no_layer_is_emptied_by_global_pruning() {
    let mut model = build(ZooModel::Resnet8);
    let stem = model.layers()[0].weight.clone();
    let small = model.weights[&stem].latent() * 1e-4;
    model.weight_mut(&stem).unwrap().set_latent(small).unwrap();
    for text in ["unstructured: { sparsity: 80%, scope: global }", "unstructured: { sparsity: 80%, scope: macs }"] {
        let config: PruneConfig = parse(text);
        let pruned = compressed(&config, ZooModel::Resnet8, &model).unwrap();
        let kept = |name: &String| 1.0 - pruned.weights[name].sparsity().unwrap();
        assert!(pruned.layers().iter().all(|l| kept(&l.weight) >= 0.039), "{text}");
        if text.contains("global") {
            let nonzero: f64 = pruned.layers().iter().map(|l| kept(&l.weight) * pruned.weights[&l.weight].numel() as f64).sum();
            let all: usize = pruned.layers().iter().map(|l| pruned.weights[&l.weight].numel()).sum();
            assert!((nonzero / all as f64 - 0.2).abs() < 0.001, "{text}");
        }
    }
}

#[test]
fn clustering_after_quantizing_keeps_both() {
    let model = build(ZooModel::Lenet5);
    let (quantize, cluster): (QuantizeConfig, sinter_cluster::ClusterConfig) = (parse("{}"), parse("{ centroids: 12 }"));
    let quantized = compressed(&quantize, ZooModel::Lenet5, &model).unwrap();
    let clustered = compressed(&cluster, ZooModel::Lenet5, &quantized).unwrap();
    clustered.check().unwrap();
    let x = samples(&clustered, 4);
    let (simulated, real) = (predict(&clustered, &x), exported(&clustered, &x));
    let spread = simulated.abs().max().double_value(&[]);
    assert!((&simulated - &real).abs().mean(Kind::Float).double_value(&[]) < 0.02 * spread);
}

#[test]
fn hostile_headers_are_errors() {
    use sinter_model::{Attribute, ElementType, Node};
    // An attribute that promises more than it holds: nothing may read past it.
    let mut model = build(ZooModel::Lenet300100);
    let lie = Attribute::Tensor { element: ElementType::Float, shape: vec![100_000_000], data: vec![] };
    let relu = model.graph.nodes.iter_mut().find(|n| n.kind() == "Relu").unwrap();
    *relu = Node::new("r", "Relu", sinter_model::Attributes::new().with("x", lie), relu.inputs.clone(), relu.outputs.clone())
        .unwrap();
    assert!(sinter_onnx::export(&model).unwrap_err().to_string().contains("do not fill its shape"));
}
