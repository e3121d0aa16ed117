//! The simulation of integer kernels beside the kernels themselves.

use std::collections::BTreeMap;

use sinter_data::{DataConfig, Dataset, Order};
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit};
use sinter_fixtures::{parse, shared};
use sinter_model::{Dim, ElementType, Mode, Model, ValueInfo};
use sinter_onnx::{Options, load};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, StageError, TeacherRef, apply};
use tch::{Kind, Tensor};

fn quantized(float: &Model, data: &Dataset, text: &str) -> Model {
    let teacher = |_: &TeacherRef| -> Result<Model, StageError> { Ok(float.copy()) };
    let context = Context { teacher: &teacher, ..Context::alone(data, &GENERIC) };
    apply(&parse::<QuantizeConfig>(text), float.copy(), &context).unwrap()
}

/// On real models and data, the simulation and the exported file in ONNX Runtime give different answers to at most 0.2 % of the samples.
#[test]
fn simulated_and_exported_answers_agree() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let kws = format!("numpy: {{ path: {} }} }}\nsplit: {{ test: 80% }}", shared.join("data/kws01.npz").display());
    let cifar = format!("images: {{ path: {} }} }}", shared.join("data/cifar10-images.tar").display());
    for (name, source, formats) in [
        ("kws_ds_cnn.onnx", kws, &["{ samples: 200 }", "{ samples: 200, weights: int4/channel, rounding: gptq }"][..]),
        ("ic_resnet8.onnx", cifar, &["{ samples: 128 }", "{ weights: int8/channel, activations: dynamic }"][..]),
    ] {
        let float = load(&shared.join("models").join(name), &Options::default()).unwrap();
        let yaml = format!("name: data\nnormalize: {{ divide: 1 }}\nsource: {{ {source}\n");
        let data = Dataset::open(&parse::<DataConfig>(&yaml)).unwrap();
        let some = data.test.sample(2000, 1);
        for text in formats {
            let model = quantized(&float, &data, text);
            explicit(&model).unwrap().save(&path).unwrap();
            let mut runtime = OnnxRuntime::open(&path).unwrap();
            let runner = tch::no_grad(|| Runner::new(&model)).unwrap();
            let (mut differ, mut all) = (0, 0);
            for batch in some.batches(100, Order::Stored) {
                let x = batch.unwrap().inputs.remove(0);
                let ours = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict)).unwrap().swap_remove(0);
                let other =
                    ours.argmax(1, false).not_equal_tensor(&runtime.run(std::slice::from_ref(&x)).unwrap().argmax(1, false));
                differ += other.sum(Kind::Int64).int64_value(&[]);
                all += x.size()[0];
            }
            println!("{name} {text}: {differ} of {all} differ");
            assert!(differ * 1000 <= 2 * all, "{name} {text}: {differ} of {all}");
        }
    }
}

/// Every value between the layers of a residual network is the one that ONNX Runtime's integer kernels give.
#[test]
fn the_simulation_rounds_as_integer_kernels_do() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let float = load(&shared.join("models/ic_resnet8.onnx"), &Options::default()).unwrap();
    let source = format!("images: {{ path: {} }}", shared.join("data/cifar10-images.tar").display());
    let data =
        Dataset::open(&parse::<DataConfig>(&format!("name: data\nnormalize: {{ divide: 1 }}\nsource: {{ {source} }}"))).unwrap();
    let model = quantized(&float, &data, "{ samples: 64 }");
    let x = data.test.batches(64, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
    let mut seen = BTreeMap::new();
    let mut keep = |name: &str, value: &Tensor| {
        seen.insert(name.to_string(), value.copy());
        Ok(())
    };
    tch::no_grad(|| Runner::new(&model).unwrap().run_tapped(&[x.shallow_clone()], Mode::Predict, &mut keep)).unwrap();
    let mut made = explicit(&model).unwrap();
    let inner: Vec<&String> =
        model.graph.nodes.iter().map(|n| &n.outputs[0]).filter(|n| model.activations.contains_key(*n)).collect();
    for name in &inner {
        let shape = (0..seen[*name].dim()).map(|i| Dim::Free(format!("{name}{i}"))).collect();
        made.model.graph.outputs.push(ValueInfo { name: format!("{name}.dequantized"), element: ElementType::Float, shape });
    }
    made.save(&path).unwrap();
    let real = OnnxRuntime::open(&path).unwrap().run_all(&[x]).unwrap();
    assert!(inner.len() > 12);
    for (name, real) in inner.into_iter().zip(&real[1..]) {
        // Kernels for other processors may round a sum of two otherwise.
        let off = seen[name].not_equal_tensor(real).to_kind(Kind::Float).mean(Kind::Double).double_value(&[]);
        assert!(off < 1e-3, "{name}: {off} of the values differ");
    }
}
