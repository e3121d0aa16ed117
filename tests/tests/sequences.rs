//! A recurrent network and a transformer encoder as PyTorch exports them (`fixtures/models/sequence_models.py`), quantized without calibration or
//! with weights alone, in ONNX Runtime.

use std::path::Path;

use sinter_data::{DataConfig, Dataset, Order};
use sinter_estimate::GENERIC;
use sinter_export::{OnnxRuntime, explicit, pack, unpack};
use sinter_fixtures::{fixture, parse};
use sinter_model::Model;
use sinter_onnx::{Options, load};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, apply};
use tch::{Kind, Tensor};

fn data() -> Dataset {
    let folder = sinter_fixtures::root().join(".cache/fashion-mnist");
    assert!(folder.is_dir(), "{} is missing: `cargo xtask setup` fetches it", folder.display());
    let yaml = format!("name: fashion\nsource: {{ idx: {{ folder: {} }} }}\nnormalize: {{ divide: 255 }}", folder.display());
    Dataset::open(&parse::<DataConfig>(&yaml)).unwrap()
}

fn quantized(model: &Model, data: &Dataset, text: &str) -> Model {
    let quantized = apply(&parse::<QuantizeConfig>(text), model.copy(), &Context::alone(data, &GENERIC)).unwrap();
    quantized.check().unwrap();
    quantized
}

fn in_runtime(path: &Path, x: &Tensor) -> Tensor {
    OnnxRuntime::open(path).unwrap().run(std::slice::from_ref(x)).unwrap()
}

/// The cosine between the outputs for each sample: the mean and the least.
fn cosine(a: &Tensor, b: &Tensor) -> (f64, f64) {
    let each = Tensor::cosine_similarity(a, b, 1, 1e-8);
    (each.mean(Kind::Float).double_value(&[]), each.min().double_value(&[]))
}

#[test]
fn outputs_survive_int8() {
    let data = data();
    let x = data.test.batches(512, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    for name in ["lstm", "encoder"] {
        let file = fixture(&format!("models/{name}.onnx"));
        let float = load(&file, &Options::default()).unwrap();
        let wanted = in_runtime(&file, &x);
        for (text, mean, least) in [
            ("{ activations: dynamic }", 0.999, 0.99),
            ("{ activations: none }", 0.999, 0.995),
            ("{ weights: bf16, activations: none }", 0.9999, 0.999),
            ("{ weights: fp16, activations: none }", 0.99999, 0.9999),
            ("{ weights: int4/group:16, activations: none }", 0.99, 0.9),
        ] {
            let model = quantized(&float, &data, text);
            explicit(&model).unwrap().save(&path).unwrap();
            let found = cosine(&in_runtime(&path, &x), &wanted);
            println!("{name} {text}: cosine {found:?}, {} bytes", std::fs::metadata(&path).unwrap().len());
            assert!(found.0 > mean && found.1 > least, "{name} {text}: {found:?}");
            // The file is one that Sinter itself reads, and the packed one tells the same.
            let read = load(&path, &Options::default()).unwrap();
            let ours = |m: &Model| {
                tch::no_grad(|| {
                    sinter_exec::Runner::new(m)
                        .unwrap()
                        .run(&[x.shallow_clone()], sinter_model::Mode::Predict)
                        .unwrap()
                        .swap_remove(0)
                })
            };
            assert!(cosine(&ours(&read), &ours(&model)).1 > 0.9999, "{name} {text}");
            let back = unpack(&pack(&model).unwrap().bytes).unwrap();
            assert_eq!(ours(&back), ours(&model), "{name} {text}");
        }
    }
}

/// Every weight of both networks is stored in fewer bits, the recurrent one too, and matrix products run on integers.
#[test]
fn nothing_is_left_in_float() {
    let data = data();
    let kinds = |model: &Model| -> Vec<String> { model.graph.nodes.iter().map(|n| n.kind().to_string()).collect() };
    for (name, products) in [("lstm", 1), ("encoder", 10)] {
        let float = load(&fixture(&format!("models/{name}.onnx")), &Options::default()).unwrap();
        let model = quantized(&float, &data, "{ activations: dynamic }");
        let made = explicit(&model).unwrap().model;
        let large = made.weights.iter().filter(|(_, w)| w.numel() > 1500 && w.latent().kind() == Kind::Float);
        assert_eq!(large.map(|(n, _)| n.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
        let count = kinds(&made).iter().filter(|k| *k == "MatMulInteger").count();
        assert_eq!(count, products, "{name}: {:?}", kinds(&made));
    }
}
