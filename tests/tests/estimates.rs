//! What is credited to a compressed model on a target, and what `sinter inspect` tells of a file.

use sinter_estimate::{GENERIC, TFLITE, Target, costs, footprint, memory};
use sinter_fixtures::sinter;
use sinter_model::zoo::ZooModel;
use sinter_model::{Codebook, Mask, Model, NmPattern, to_f32s};
use sinter_prune::{magnitude_mask, nm_mask};

fn model() -> Model {
    ZooModel::Lenet5.build(&[1, 28, 28], 10, 1).unwrap()
}

/// The model with one thing done to every weight of a layer.
fn changed(change: impl Fn(&mut sinter_model::Weight)) -> Model {
    let mut model = model();
    for layer in model.layers() {
        change(model.weight_mut(&layer.weight).unwrap());
    }
    model
}

fn floor(model: &Model, target: &Target) -> f64 {
    costs(&footprint(model).unwrap(), target).floor
}

fn sparse(weight: &mut sinter_model::Weight) {
    let value = weight.latent().shallow_clone();
    weight.prune(Mask::new(&magnitude_mask(&value, 0.9).unwrap(), None).unwrap()).unwrap();
}

fn patterned(weight: &mut sinter_model::Weight) {
    let value = weight.latent().shallow_clone();
    let pattern = NmPattern { n: 2, m: 4, axis: 1 };
    weight.prune(Mask::new(&nm_mask(&value, pattern).unwrap(), Some(pattern)).unwrap()).unwrap();
}

#[test]
fn zeros_and_shared_values_earn_no_energy_that_the_target_can_not_give() {
    let dense = floor(&model(), &GENERIC);
    assert_eq!(floor(&changed(sparse), &GENERIC), dense);
    let clustered = changed(|weight| {
        let value = weight.latent().shallow_clone();
        weight.cluster(Codebook::assign(&[-0.1, 0.0, 0.1], &value, None).unwrap()).unwrap();
    });
    assert_eq!(floor(&clustered, &GENERIC), dense);
    // A pattern earns half of the products, where the target says that it skips them, and nothing elsewhere.
    let halved = changed(patterned);
    assert_eq!(floor(&halved, &GENERIC), dense);
    let skips = Target { sparse: vec!["2:4".into()], ..GENERIC.clone() };
    let products = footprint(&model()).unwrap().macs().0 as f64 * GENERIC.floor.mac_float32_pj * 1e-12;
    assert!((dense - floor(&halved, &skips) - products / 2.0).abs() < 1e-12);
    let other = Target { sparse: vec!["1:4".into()], ..GENERIC.clone() };
    assert_eq!(floor(&halved, &other), dense);
}

#[test]
fn boards_are_estimated_for_integers_only() {
    let float = costs(&footprint(&model()).unwrap(), &TFLITE);
    assert!(float.energy.is_none() && float.latency.is_none());
}

/// By hand: LeNet-5 of Caffe has 288,000 + 1,600,000 products in convolutions, 400,000 + 5,000 in matrices.
#[test]
fn products_and_memory_are_those_counted_by_hand() {
    let model = model();
    let kinds = footprint(&model).unwrap().macs_by_kind();
    assert_eq!(kinds, [("Conv".to_string(), 288_000 + 1_600_000), ("Gemm".to_string(), 405_000)]);
    let memory = memory(&model).unwrap();
    // The first convolution's 20 maps of 24 x 24 beside what the pool makes of them, in float32.
    assert_eq!(memory.profile.iter().max(), Some(&(4 * (20 * 24 * 24 + 20 * 12 * 12))));
    assert_eq!(memory.ram, *memory.profile.iter().max().unwrap());
    assert_eq!(memory.flash, 4 * 431_080);
    assert_eq!(memory.profile.len(), model.graph.nodes.len());
    assert_eq!(to_f32s(&model.weight("conv1.weight").unwrap().effective().unwrap()).unwrap().len(), 500);
}

#[test]
fn inspect_tells_of_a_file_and_refuses_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let packed = sinter_export::pack(&changed(sparse)).unwrap();
    std::fs::write(folder.path().join("model.sinter"), &packed.bytes).unwrap();
    let target = sinter_fixtures::root().join("configs/targets/cortex-m4.yaml");
    let target = target.to_str().unwrap();
    let output = sinter(folder.path(), &["inspect", "model.sinter", "--json", "--target", target]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["parameters"].as_u64(), told["macs"].as_u64()), (Some(431_080), Some(2_293_000)));
    assert_eq!(told["packed_bytes"].as_u64(), Some(packed.bytes.len() as u64));
    assert!((told["layers"][0]["zeros"].as_f64().unwrap() - 0.9).abs() < 0.01);
    assert_eq!((told["target"].as_str(), told["fits"].as_bool()), (Some("cortex-m4"), Some(true)));
    let text = String::from_utf8(sinter(folder.path(), &["inspect", "model.sinter"]).stdout).unwrap();
    assert!(text.contains("by operator: Conv 1.89 M, Gemm 405.0 k") && text.contains("conv2"), "{text}");

    std::fs::write(folder.path().join("broken.sinter"), &packed.bytes[..100]).unwrap();
    std::fs::write(folder.path().join("text.onnx"), "not a model").unwrap();
    std::fs::write(folder.path().join("target.yaml"), "name: x\nflush: 64 KiB\n").unwrap();
    for (args, words) in [
        (&["inspect", "broken.sinter"][..], "broken.sinter"),
        (&["inspect", "text.onnx"], "text.onnx"),
        (&["inspect", "absent.onnx"], "could not read absent.onnx"),
        (&["inspect", "model.sinter", "--target", "target.yaml"], "unknown key `flush`"),
    ] {
        let output = sinter(folder.path(), args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
