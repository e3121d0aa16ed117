//! Graphs with weights and inputs at the ends of what floats hold: every form of quantization gives finite outputs, the exports agree with the
//! simulation, and what is lost is within what the steps explain or told in a note that names a layer.

use proptest::prelude::*;
use sinter_certify::{Reference, certify};
use sinter_data::{Dataset, Order};
use sinter_estimate::{GENERIC, TFLITE, Target};
use sinter_exec::Runner;
use sinter_export::device::{Rounding, integers, lower, run};
use sinter_export::{OnnxRuntime, c, explicit, tflite};
use sinter_fixtures::{normal, parse, write_npz};
use sinter_model::zoo::Builder;
use sinter_model::{Mode, Model, to_f32s};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, Event, apply};
use tch::Tensor;

/// What becomes of a layer's weight.
#[derive(Debug, Clone, Copy)]
enum Weights {
    Normal,
    Tiny,
    Huge,
    Zero,
    OneChannelLarge,
    OneChannelDead,
    Subnormal,
    Constant,
}

fn weights() -> impl Strategy<Value = Weights> {
    prop_oneof![
        3 => Just(Weights::Normal),
        1 => Just(Weights::Tiny),
        1 => Just(Weights::Huge),
        1 => Just(Weights::Zero),
        1 => Just(Weights::OneChannelLarge),
        1 => Just(Weights::OneChannelDead),
        1 => Just(Weights::Subnormal),
        1 => Just(Weights::Constant),
    ]
}

/// What the samples are like.
#[derive(Debug, Clone, Copy)]
enum Samples {
    Normal,
    Large,
    Small,
    Positive,
    Constant,
}

fn samples() -> impl Strategy<Value = Samples> {
    prop_oneof![
        Just(Samples::Normal),
        Just(Samples::Large),
        Just(Samples::Small),
        Just(Samples::Positive),
        Just(Samples::Constant)
    ]
}

fn change(value: &Tensor, how: Weights) -> Tensor {
    let out = value.copy();
    match how {
        Weights::Normal => {}
        Weights::Tiny => return value * 1e-7,
        Weights::Huge => return value * 1e7,
        Weights::Zero => return value * 0.0,
        Weights::OneChannelLarge => drop(out.select(0, 0).f_mul_scalar_(1000.0).unwrap()),
        Weights::OneChannelDead => drop(out.select(0, 0).f_mul_scalar_(0.0).unwrap()),
        Weights::Subnormal => return value * 1e-40,
        Weights::Constant => return value * 0.0 + 0.25,
    }
    out
}

/// Two convolutions, a shortcut, pools, and two dense layers.
fn model(each: &[Weights; 4], shortcut: bool, average: bool, seed: u64) -> Model {
    let mut b = Builder::new("extreme", &[1, 8, 8], seed);
    let x = b.conv("c1", "input", 4, [3, 3], 1, 1, "SAME_UPPER");
    let r = b.relu(&x);
    let mut y = b.conv("c2", &r, 4, [3, 3], 1, 1, "SAME_UPPER");
    if shortcut {
        y = b.add("sum", &y, &r);
    }
    let y = b.relu(&y);
    let y = if average { b.global_average(&y) } else { b.max_pool(&y, 2) };
    let y = b.flatten(&y);
    let y = b.dense("d1", &y, 6);
    let y = b.relu(&y);
    let y = b.dense("d2", &y, 3);
    let mut model = b.finish(&y).unwrap();
    for (layer, how) in model.layers().into_iter().zip(each) {
        let weight = model.weight_mut(&layer.weight).unwrap();
        let changed = change(weight.latent(), *how);
        weight.set_latent(changed).unwrap();
        if let Some(bias) = layer.bias {
            let bias = model.weight_mut(&bias).unwrap();
            let some = normal(seed + 1, &bias.size()) * 0.3;
            bias.set_latent(some).unwrap();
        }
    }
    model
}

fn data(how: Samples, seed: u64) -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    let x = normal(seed + 77, &[48, 1, 8, 8]);
    let x = match how {
        Samples::Normal => x,
        Samples::Large => x * 1e4,
        Samples::Small => x * 1e-4,
        Samples::Positive => x.abs() + 5.0,
        Samples::Constant => x * 0.0 + 0.5,
    };
    write_npz(&path, &x, (0..48).map(|i| i % 3));
    Dataset::open(&parse(&format!("name: e\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap()
}

fn predict(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().swap_remove(0)
}

fn finite(x: &Tensor) -> bool {
    x.isfinite().all().int64_value(&[]) != 0
}

/// Quantizes, and gives back the notes too.
fn quantized(text: &str, float: &Model, data: &Dataset, target: &Target) -> (Model, Vec<String>) {
    let notes = std::cell::RefCell::new(Vec::new());
    let listen = |event: Event| {
        if let Event::Note { text } = event {
            notes.borrow_mut().push(text);
        }
    };
    let context = Context { events: &listen, ..Context::alone(data, target) };
    let model = apply(&parse::<QuantizeConfig>(text), float.copy(), &context).unwrap_or_else(|e| panic!("{text}: {e}"));
    (model, notes.into_inner())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(std::env::var("SINTER_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)))]

    #[test]
    fn extremes_are_right_or_told(
        each in [weights(), weights(), weights(), weights()],
        shortcut in any::<bool>(),
        average in any::<bool>(),
        kind in samples(),
        seed in 0u64..1000,
    ) {
        tch::set_num_threads(1);
        let (float, data) = (model(&each, shortcut, average, seed), data(kind, seed));
        let x = data.test.batches(9, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
        let wanted = predict(&float, &x);
        prop_assert!(finite(&wanted));
        let folder = tempfile::tempdir().unwrap();
        for (text, target) in [
            ("{ samples: 39 }", &GENERIC),
            ("{ samples: 39, weights: int8, calibrate: min-max }", &GENERIC),
            ("{ samples: 39, weights: int4/channel, activations: none }", &GENERIC),
            ("{ samples: 39, activations: dynamic }", &GENERIC),
            ("{ samples: 39 }", &TFLITE),
        ] {
            let (model, notes) = quantized(text, &float, &data, target);
            model.check().unwrap();
            let simulated = predict(&model, &x);
            prop_assert!(finite(&simulated), "{} {}: not finite", target.name, text);
            let size = wanted.abs().max().double_value(&[]);
            let output = &model.graph.outputs[0].name;
            let step = model.activations.get(output).map_or(0.0, |q| f64::from(q.scales().unwrap()[0]));
            // Exported.
            let path = folder.path().join("m.onnx");
            explicit(&model).unwrap().save(&path).unwrap();
            let exported = OnnxRuntime::open(&path).unwrap().run(std::slice::from_ref(&x)).unwrap();
            prop_assert!(finite(&exported), "{} {}: ONNX Runtime is not finite", target.name, text);
            let apart = (&exported - &simulated).abs().max().double_value(&[]);
            let inner = model.activations.values().map(|q| f64::from(q.scales().unwrap()[0])).fold(step, f64::max);
            let most = (1.5 * step).max(0.02 * size).max(if step == 0.0 { 0.02 * inner } else { 0.0 });
            prop_assert!(apart <= most, "{} {}: ONNX Runtime is {} off, a step is {}, outputs reach {}", target.name, text, apart, step, size);
            // Lost.
            let lost = (&simulated - &wanted).abs().max().double_value(&[]);
            // No more than the certificate says, whatever the bits. Ranges of a batch are no wider than those of all samples.
            let certified = if text.contains("dynamic") {
                quantized("{ samples: 39, calibrate: min-max }", &float, &data, target).0
            } else {
                model.copy()
            };
            let reference = Reference::Float { model: &float, name: "the float model".into() };
            let least = x.min().double_value(&[]);
            let range = (least, x.max().double_value(&[]).max(least + 1e-3));
            let certificate = certify(&certified, Some(range), &[reference]).unwrap();
            for distance in &certificate.distance {
                let most = distance.at_most.unwrap_or(f64::INFINITY);
                prop_assert!(lost <= most + 1e-4 * size, "{} {}: {} lost, certified {}", target.name, text, lost, most);
                prop_assert!(distance.at_least <= most, "{} {}: {}", target.name, text, certificate);
            }
            // As Sinter chooses where nobody says otherwise, it is little or told: on samples as those it saw, since others may leave the ranges.
            if text == "{ samples: 39 }" {
                let seen = data.train.batches(39, Order::Stored).next().unwrap().unwrap().inputs.remove(0);
                let (simulated, wanted) = (predict(&model, &seen), predict(&float, &seen));
                let lost = (&simulated - &wanted).abs().max().double_value(&[]);
                let size = wanted.abs().max().double_value(&[]);
                let named = notes.iter().any(|n| n.contains('`'));
                prop_assert!(lost <= 0.25 * size + 2.0 * step || named, "{} {}: {} lost of {}; notes {:?}", target.name, text, lost, size, notes);
            }
        }
        // In integers: the reference as the simulation, C as the reference.
        let (model, _) = quantized("{ samples: 39 }", &float, &data, &TFLITE);
        let program = lower(&model).unwrap();
        let q = program.tensors[program.outputs[0]].quantization.clone().unwrap();
        let sample = integers(&program, &[x.narrow(0, 0, 1)]).unwrap();
        let answer = run(&program, &sample, Rounding::Fixed).unwrap().remove(0);
        for (wanted, got) in to_f32s(&predict(&model, &x.narrow(0, 0, 1))).unwrap().into_iter().zip(answer) {
            prop_assert!((q.quantize(wanted) - i64::from(got)).abs() <= 2, "simulated {}, in integers {}", q.quantize(wanted), got);
        }
        for (file, content) in &c::source(&program, &tflite(&program), &sample, None).unwrap().files {
            std::fs::write(folder.path().join(file), content).unwrap();
        }
        if let Some(answer) = c::answers_its_test(folder.path()) {
            prop_assert!(answer.is_ok(), "{:?}", answer);
        }
    }
}
