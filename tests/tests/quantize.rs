//! Quantization of real and of trained models: what it costs, and what gives it back.

use std::cell::RefCell;

use sinter_data::{DataConfig, Dataset};
use sinter_model::Model;
use sinter_model::zoo::ZooModel;
use sinter_onnx::{Options, load};
use sinter_quantize::QuantizeConfig;
use sinter_tests::{shared, write_bars};
use sinter_train::{Context, Event, FitConfig, Forgetful, Stage, StageError, TeacherRef, evaluate, fit};

fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(yaml)).unwrap()
}

/// Quantizes a copy; its accuracy and what the stage said.
fn quantize(float: &Model, data: &Dataset, text: &str) -> (f64, Model, Vec<String>) {
    let notes = RefCell::new(Vec::new());
    let listen = |event: Event| {
        if let Event::Note { text } = event {
            notes.borrow_mut().push(text);
        }
    };
    let teacher = |_: &TeacherRef| -> Result<Model, StageError> { Ok(float.copy()) };
    let context = Context { data, seed: 1, events: &listen, teacher: &teacher, memory: &Forgetful };
    let config: QuantizeConfig = parse(text);
    config.check(float, data).unwrap();
    let quantized = config.run(float.copy(), &context).unwrap();
    quantized.check().unwrap();
    (evaluate(&quantized, &data.test, data.task, None).unwrap().value, quantized, notes.into_inner())
}

/// The keyword spotter: 200 samples to calibrate, 800 to score.
#[test]
fn a_keyword_spotter_keeps_its_accuracy() {
    let Some(shared) = shared() else { return };
    let float = load(&shared.join("models/kws_ds_cnn.onnx"), &Options::default()).unwrap();
    let path = shared.join("data/kws01.npz");
    let yaml = format!("name: kws\nsource: {{ numpy: {{ path: {} }} }}\nsplit: {{ test: 80% }}", path.display());
    let data = Dataset::open(&parse::<DataConfig>(&yaml)).unwrap();
    let whole = evaluate(&float, &data.test, data.task, None).unwrap().value;
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

fn bars(folder: &std::path::Path) -> (Dataset, Model) {
    write_bars(folder, 512, 256);
    let mut config: DataConfig = parse("name: bars\nsource: { idx: { folder: . } }");
    config.rebase(folder);
    let data = Dataset::open(&config).unwrap();
    tch::manual_seed(2);
    let mut model = ZooModel::Lenet300100.build(&[1, 12, 12], 4).unwrap();
    let teacher = |_: &TeacherRef| -> Result<Model, StageError> { Err(StageError::config("", "no teacher here")) };
    let context = Context { data: &data, seed: 1, events: &|_| {}, teacher: &teacher, memory: &Forgetful };
    fit(&mut model, &FitConfig { batch_size: 16, ..FitConfig::epochs(6) }, &context).unwrap();
    (data, model)
}

/// What two bits break, training with learned scales mends.
#[test]
fn training_mends_two_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = bars(folder.path());
    let whole = evaluate(&float, &data.test, data.task, None).unwrap().value;
    let formats =
        "weights: int2/channel, activations: uint2, layers: [{ match: 'fc[13]', weights: int8/channel, activations: uint8 }]";
    let (broken, _, _) = quantize(&float, &data, &format!("{{ {formats}, rounding: nearest, correct_bias: false }}"));
    let training = "mode: qat, finetune: { epochs: 12, lr: 3e-3, batch_size: 16, distill: {} }";
    let (mended, model, _) = quantize(&float, &data, &format!("{{ {formats}, {training} }}"));
    assert!(mended > whole - 0.05, "{mended} of {whole}, {broken} without training");
    // Scales are as storable as calibrated ones, and no longer learned.
    let bits = |s: &f32| s.to_bits() & 0xffff;
    for grid in model.weights.values().filter_map(|w| w.grid()).filter(|g| g.bits() < 32).chain(model.activations.values()) {
        assert!(grid.leaf().is_none() && grid.scales().unwrap().iter().all(|s| bits(s) == 0));
    }
}

/// The guard names what it lifts and holds what it promised on the samples it measured.
#[test]
fn the_guard_lifts_the_layers_at_fault() {
    let folder = tempfile::tempdir().unwrap();
    let (data, float) = bars(folder.path());
    let formats = "weights: binary, activations: uint2, correct_bias: false";
    let (broken, ..) = quantize(&float, &data, &format!("{{ {formats} }}"));
    let (held, model, notes) = quantize(&float, &data, &format!("{{ {formats}, accuracy_drop: 1% }}"));
    let whole = evaluate(&float, &data.test, data.task, None).unwrap().value;
    assert!(broken < whole - 0.05 && held > broken && held > whole - 0.05, "{broken} {held} {whole}");
    assert!(notes.iter().any(|n| n.contains("lifted to 8 bits")), "{notes:?}");
    assert!(model.weights.values().filter_map(|w| w.grid()).any(|g| g.bits() == 8));
    // Where nothing is lost nothing is lifted.
    let (_, _, notes) = quantize(&float, &data, "{ accuracy_drop: 5% }");
    assert!(
        notes.iter().any(|n| n.contains("within `accuracy_drop`")) && !notes.iter().any(|n| n.contains("lifted")),
        "{notes:?}"
    );
}
