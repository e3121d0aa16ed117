//! TFLite files that TensorFlow quantized (`fixtures/tflite/make.py`): read, run beside its reference kernels, and certified.

use std::path::PathBuf;

use sinter_certify::{Reference, certify};
use sinter_exec::Runner;
use sinter_export::{device, tflite};
use sinter_fixtures::{bars, everything, parse, root};
use sinter_model::{Mode, Model};
use sinter_quantize::QuantizeConfig;
use sinter_tflite::{import, load};
use sinter_train::{Context, apply};
use tch::Tensor;

const FILES: [&str; 5] = ["image", "image-float-ends", "dense", "series", "branches"];

fn fixture(file: &str) -> PathBuf {
    root().join("tests/fixtures/tflite").join(file)
}

fn recorded(file: &str, array: &str) -> Tensor {
    let mut archive = npyz::npz::NpzArchive::open(fixture(&format!("{file}.npz"))).unwrap();
    let array = archive.by_name(array).unwrap().unwrap();
    let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_slice(&array.into_vec::<f32>().unwrap()).reshape(shape)
}

fn run(model: &Model, x: &Tensor) -> Tensor {
    tch::no_grad(|| Runner::new(model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().remove(0)
}

#[test]
fn files_answer_as_in_tensorflow() {
    for file in FILES {
        let model = load(&fixture(&format!("{file}.tflite"))).unwrap_or_else(|e| panic!("{file}: {e}"));
        let (ours, wanted) = (run(&model, &recorded(file, "x")), recorded(file, "y"));
        assert_eq!(ours.size(), wanted.size(), "{file}");
        let output = &model.graph.outputs[0].name;
        let rounded = model.activations.get(output).map_or(1.0 / 256.0, |q| q.scales().unwrap()[0]);
        let off = (ours - wanted).abs().max().double_value(&[]) / f64::from(rounded);
        // Each value between may round the other way.
        assert!(off < 2.01, "{file}: {off} steps off");
    }
}

#[test]
fn files_are_certified() {
    for file in FILES {
        let model = load(&fixture(&format!("{file}.tflite"))).unwrap();
        let certificate = certify(&model, None, &[Reference::Unrounded]).unwrap();
        assert!(certificate.never_wraps() && !certificate.layers.is_empty(), "{file}: {certificate}");
        assert!(certificate.layers.iter().all(|l| l.requantization.is_some()), "{file}: {certificate}");
        let [distance] = &certificate.distance[..] else { panic!("{file}: {certificate}") };
        assert!(distance.at_most.is_none_or(|most| distance.at_least <= most), "{file}: {certificate}");
        // The input is from 0 to 1, and what is asked with another range is answered for that.
        let wide = certify(&model, Some((-2.0, 2.0)), &[Reference::Unrounded]).unwrap();
        let first = |c: &sinter_certify::Certificate| c.ranges.iter().map(|r| r.reaches.1).fold(0.0, f64::max);
        assert!(first(&wide) >= first(&certificate), "{file}: {wide}");
    }
}

/// What a file says is what the model said that it was written from.
#[test]
fn what_is_written_has_the_same_sums() {
    let folder = tempfile::tempdir().unwrap();
    let data = bars(folder.path(), 128, 16, "normalize: { mean: [0.3], std: [0.25] }");
    let context = Context::alone(&data, &sinter_estimate::TFLITE);
    let model = apply(&parse::<QuantizeConfig>("{ samples: 64 }"), everything(), &context).unwrap();
    let read = import(&tflite(&device::lower(&model).unwrap())).unwrap();
    let sums = |m: &Model| {
        let all = certify(m, None, &[Reference::Unrounded]).unwrap().layers;
        all.into_iter().map(|l| (l.sums.low, l.sums.high, l.sums.bits)).collect::<Vec<_>>()
    };
    let wanted = sums(&model);
    assert!(wanted.len() > 2);
    assert_eq!(sums(&read), wanted);
}

#[test]
fn what_is_no_file_is_told() {
    let bytes = std::fs::read(fixture("image.tflite")).unwrap();
    for cut in (0..bytes.len()).step_by(97) {
        let error = import(&bytes[..cut]).unwrap_err().to_string();
        assert!(error.contains("TFLite") || error.contains("tensor") || error.contains("bytes"), "cut at {cut}: {error}");
    }
    assert!(import(b"TFL3").unwrap_err().to_string().contains("not a complete TFLite file"));
}
