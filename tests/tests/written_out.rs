//! Normalisations and activations that an exporter wrote out in arithmetic: static 8 bits leave them in float, and the products around them not.

use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit};
use sinter_fixtures::{parse, random};
use sinter_model::zoo::Builder;
use sinter_model::{Attributes, Mode, Model, Node};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, apply};
use tch::Tensor;

/// Arithmetic of one kind behind the other, constants by value.
struct Arithmetic {
    model: Model,
    count: usize,
}

impl Arithmetic {
    fn node(&mut self, kind: &str, attributes: Attributes, inputs: &[&str]) -> String {
        let output = format!("v{}", self.count);
        self.count += 1;
        let inputs = inputs.iter().map(|s| s.to_string()).collect();
        self.model.graph.nodes.push(Node::new(&output, kind, attributes, inputs, vec![output.clone()]).unwrap());
        output
    }

    fn two(&mut self, kind: &str, a: &str, b: &str) -> String {
        self.node(kind, Attributes::new(), &[a, b])
    }

    fn with(&mut self, kind: &str, a: &str, constant: f32) -> String {
        let constant = self.model.add_constant("c", Tensor::from(constant));
        self.two(kind, a, &constant)
    }

    fn one(&mut self, kind: &str, a: &str) -> String {
        self.node(kind, Attributes::new(), &[a])
    }

    fn mean(&mut self, a: &str) -> String {
        let axes = self.model.add_constant("axes", Tensor::from_slice(&[-1i64]));
        self.node("ReduceMean", Attributes::new().int("keepdims", 1), &[a, &axes])
    }

    /// GELU by its tanh form (Hendrycks and Gimpel, 2016).
    fn gelu(&mut self, x: &str) -> String {
        let square = self.two("Mul", x, x);
        let cube = self.two("Mul", &square, x);
        let scaled = self.with("Mul", &cube, 0.044_715);
        let sum = self.two("Add", x, &scaled);
        let inner = self.with("Mul", &sum, 0.797_884_6);
        let tanh = self.one("Tanh", &inner);
        let more = self.with("Add", &tanh, 1.0);
        let half = self.with("Mul", &more, 0.5);
        self.two("Mul", x, &half)
    }

    /// Layer normalisation by mean and variance (Ba et al., 2016).
    fn normalised(&mut self, x: &str) -> String {
        let mean = self.mean(x);
        let centred = self.two("Sub", x, &mean);
        let square = self.two("Mul", &centred, &centred);
        let variance = self.mean(&square);
        let safe = self.with("Add", &variance, 1e-5);
        let root = self.one("Sqrt", &safe);
        let inverse = self.one("Reciprocal", &root);
        self.two("Mul", &centred, &inverse)
    }
}

/// Dense, GELU, normalisation, dense: samples differ by orders of magnitude, so that variances do.
fn network() -> Model {
    let mut b = Builder::new("m", &[16], 4);
    let first = b.dense("first", "input", 32);
    let second = b.dense("second", &first, 4);
    let mut model = b.finish(&second).unwrap();
    let mut last = model.graph.nodes.pop().unwrap();
    last.inputs[0] = "normal".into();
    let mut between = Arithmetic { model, count: 0 };
    let active = between.gelu(&first);
    let normal = between.normalised(&active);
    let mut model = between.model;
    model.graph.nodes.last_mut().unwrap().outputs[0] = "normal".into();
    assert_eq!(model.graph.nodes.last().unwrap().name, normal);
    model.graph.nodes.push(last);
    let weight = model.weight_mut("first.weight").unwrap();
    let grown = weight.latent() * 4;
    weight.set_latent(grown).unwrap();
    model
}

#[test]
fn what_is_written_out_stays_in_float() {
    let folder = tempfile::tempdir().unwrap();
    let data = random(folder.path(), &[16], 256, 2);
    let float = network();
    let model = apply(&parse::<QuantizeConfig>("{ samples: 128 }"), float.copy(), &Context::alone(&data, &GENERIC)).unwrap();
    let quantized: Vec<&str> = model.activations.keys().map(String::as_str).collect();
    assert!(quantized.contains(&"input") && quantized.contains(&"normal"), "what products read: {quantized:?}");
    let layers = model.layers();
    assert!(layers.iter().all(|l| model.weights[&l.weight].quantizer().is_some()), "{quantized:?}");
    let x = data.test.batches(128, sinter_data::Order::Stored).next().unwrap().unwrap().inputs;
    let run = |m: &Model| tch::no_grad(|| Runner::new(m).unwrap().run(&x, Mode::Predict)).unwrap().remove(0);
    let (wanted, found) = (run(&float), run(&model));
    let noise = (&found - &wanted).square().mean(tch::Kind::Float).double_value(&[]);
    let signal = wanted.square().mean(tch::Kind::Float).double_value(&[]);
    let ratio = 10.0 * (signal / noise).log10();
    assert!(ratio > 30.0, "{ratio} dB, with quantizers on {quantized:?}");
    // And so the file.
    let path = folder.path().join("m.onnx");
    explicit(&model).unwrap().save(&path).unwrap();
    let real = OnnxRuntime::open(&path).unwrap().run(&x).unwrap();
    assert!((real - found).abs().max().double_value(&[]) < 0.05 * wanted.abs().max().double_value(&[]));
}
