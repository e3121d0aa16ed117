//! Quantization beside peers: second-order rounding of one large layer, and static quantization of real models.

use std::path::Path;
use std::process::Command;

use npyz::WriterBuilder;
use sinter_data::{Dataset, Order, Split};
use sinter_estimate::GENERIC;
use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, peak_memory};
use sinter_model::{Bytes, Mode, Model, seeded, to_f32s, to_i64s};
use sinter_onnx::{Options, load};
use sinter_quantize::{QuantizeConfig, gptq};
use sinter_task::{TaskError, evaluate_with};
use sinter_train::{Context, StageError, TeacherRef, apply};
use tch::{Kind, Tensor};

use crate::Outcome;
use crate::kernels::{best, milliseconds, slower, write_floats};
use crate::peers::Peers;
use crate::pipelines;
use crate::table::Table;

/// Samples that calibrate where there are enough, and that score.
const CALIBRATE: usize = 512;
const SCORE: usize = 4000;

/// All of it; without a folder of data the arrays only.
pub fn all(peers: &Peers, sinter: &Path, scratch: &Path, data: Option<&Path>) -> Outcome<()> {
    std::fs::create_dir_all(scratch)?;
    println!("{} threads\n", tch::get_num_threads());
    second_order(peers, scratch)?;
    let Some(data) = data else { return Ok(()) };
    let kws = format!("numpy: {{ path: {} }} }}\nsplit: {{ test: 80% }}", data.join("kws01.npz").display());
    let cifar = format!("images: {{ path: {} }} }}", data.join("cifar10-images.tar").display());
    // MobileNet comes trained from nowhere: a pipeline trains it.
    let run = pipelines::run(sinter, &scratch.join("runs"), Path::new("bench/pipelines/mobilenet.yaml"), 1)?;
    let mobilenet = scratch.join("mobilenet.onnx");
    std::fs::copy(run.join("artifacts/model.onnx"), &mobilenet)?;
    let large = cifar.replacen(" }", ", size: [96, 96] }", 1);
    let models = [(data.join("kws_ds_cnn.onnx"), &kws), (data.join("ic_resnet8.onnx"), &cifar), (mobilenet, &large)];
    for (model, source) in models {
        let text = format!("name: data\nnormalize: {{ divide: 1 }}\nsource: {{ {source}\n");
        fixed(peers, scratch, &model, &text)?;
    }
    Ok(())
}

/// GPTQ to 4 bits in groups of 128 of a 4096 x 4096 layer whose inputs are correlated.
fn second_order(peers: &Peers, scratch: &Path) -> Outcome<()> {
    let side = 4096;
    let [weight, x, mixing, noise] = seeded(7, |random| {
        let [square, tall, wide] = [[side, side], [side, 512], [512, side]];
        Ok::<_, tch::TchError>([random.normal(&square)?, random.normal(&tall)?, random.normal(&wide)?, random.normal(&square)?])
    })?;
    let x = x.matmul(&mixing) * 0.05 + noise * 0.5;
    let hessian = x.tr().matmul(&x);
    write_floats(&scratch.join("square.f32"), &to_f32s(&weight)?)?;
    write_floats(&scratch.join("hessian.f32"), &to_f32s(&hessian)?)?;
    let format = "int4/group:128".parse()?;
    let (seconds, found) = best(3, || gptq::quantize(&weight, &hessian, format));
    let error = |rounded: &Tensor| {
        let off = rounded - &weight;
        let sum = |w: &Tensor| w.matmul(&hessian).f_mul(w).map(|p| p.sum(Kind::Double).double_value(&[]));
        Ok::<_, tch::TchError>(sum(&off)? / sum(&weight)?)
    };
    let mut table = Table::new("GPTQ, int4 in groups of 128, 4096 x 4096", &["", "time", "peer / ours", "output error"]);
    table.row(&["Sinter".into(), milliseconds(seconds), String::new(), format!("{:.5}", error(&found?.1)?)]);
    let hessian_path = scratch.join("hessian.f32").display().to_string();
    for peer in peers.run("gptq", &scratch.join("square.f32"), &[&side.to_string(), &hessian_path])? {
        let value = peer.value.map_or(String::new(), |v| format!("{v:.5}"));
        table.row(&[peer.name, milliseconds(peer.seconds), slower(peer.seconds, seconds), value]);
    }
    table.print();
    Ok(())
}

/// Static int8: the same samples calibrate ours and the peers', the same samples score the exported files in ONNX Runtime.
fn fixed(peers: &Peers, scratch: &Path, path: &Path, data: &str) -> Outcome<()> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let all = Dataset::open(&parse(data)?)?;
    let folder = scratch.join(&name);
    std::fs::create_dir_all(&folder)?;
    let count = |split: &Split, most: usize| split.len().min(most);
    write_arrays(&folder.join("calibrate.npz"), &all.train.sample(count(&all.train, CALIBRATE), 1))?;
    write_arrays(&folder.join("score.npz"), &all.test.sample(count(&all.test, SCORE), 1))?;
    let text = format!(
        "name: arrays\nnormalize: {{ divide: 1 }}\nsource: {{ numpy: {{ path: {}, test: {} }} }}\n",
        folder.join("calibrate.npz").display(),
        folder.join("score.npz").display()
    );
    let (source, data) = (data, Dataset::open(&parse(&text)?)?);
    let float = load(path, &Options::default())?;
    let (forward, ran) = best(3, || run_all(&float, &data.train));
    ran?;
    let title = format!(
        "static int8 of {name}, {} samples; accuracy of the file in ONNX Runtime on {}",
        data.train.len(),
        data.test.len()
    );
    let mut table = Table::new(&title, &["", "time", "of a bare forward", "accuracy"]);
    let whole = score(&float, &folder, &data)?;
    table.row(&["bare forward, float".into(), milliseconds(forward), String::new(), format!("{:.2} %", whole * 100.0)]);
    let ways = ["min-max", "moving-average", "percentile", "entropy", "mse", "mse, biases tuned"];
    for way in ways {
        let (method, tune) = way.strip_suffix(", biases tuned").map_or((way, false), |method| (method, true));
        let config: QuantizeConfig = parse(&format!("calibrate: {method}\nsamples: {CALIBRATE}\ntune_biases: {tune}"))?;
        let (seconds, quantized) = best(3, || quantize(&config, &float, &data));
        let value = score(&quantized?, &folder, &data)?;
        let times = format!("{:.1}x", seconds / forward);
        table.row(&[format!("Sinter, {way}"), milliseconds(seconds), times, format!("{:.2} %", value * 100.0)]);
    }
    low_bits(&mut table, &float, &folder, &data, forward)?;
    for peer in peers.run("static", path, &[&folder.display().to_string()])? {
        let value = peer.value.map_or(String::new(), |v| format!("{:.2} %", v * 100.0));
        table.row(&[peer.name, milliseconds(peer.seconds), format!("{:.1}x", peer.seconds / forward), value]);
    }
    table.print();
    differing(&name, &float, &folder, &data)?;
    memory(&name, path, source, all.train.len())?;
    let mut table = Table::new(
        &format!("one inference of {name} in ONNX Runtime, one thread"),
        &["", "median", "95th percentile", "of ours"],
    );
    let told = peers.run("latency", path, &[&folder.display().to_string()])?;
    let ours = told.first().map_or(f64::NAN, |t| t.seconds);
    let micro = |seconds: f64| format!("{:.0} us", seconds * 1e6);
    for peer in told {
        let p95 = peer.value.map_or(String::new(), micro);
        table.row(&[peer.name, micro(peer.seconds), p95, format!("{:.2}x", peer.seconds / ours)]);
    }
    table.print();
    Ok(())
}

/// Weights of four bits with learned rounding, beside the rows of eight.
fn low_bits(table: &mut Table, float: &Model, folder: &Path, data: &Dataset, forward: f64) -> Outcome<()> {
    let config: QuantizeConfig = parse(&format!("weights: int4/channel\nsamples: {CALIBRATE}"))?;
    let (seconds, quantized) = best(1, || quantize(&config, float, data));
    let value = score(&quantized?, folder, data)?;
    let times = format!("{:.1}x", seconds / forward);
    table.row(&["Sinter, int4 weights, learned".into(), milliseconds(seconds), times, format!("{:.2} %", value * 100.0)]);
    Ok(())
}

/// On how many samples the simulation's answer is not the exported file's.
fn differing(name: &str, float: &Model, folder: &Path, data: &Dataset) -> Outcome<()> {
    let model = quantize(&parse(&format!("samples: {CALIBRATE}"))?, float, data)?;
    let path = folder.join("ours.onnx");
    explicit(&model)?.save(&path)?;
    let mut runtime = OnnxRuntime::open(&path)?;
    let runner = tch::no_grad(|| Runner::new(&model))?;
    let top = |y: &Tensor| -> Outcome<Vec<i64>> { Ok(to_i64s(&y.f_argmax(1, false)?)?) };
    let (mut different, mut count) = (0, 0);
    for batch in data.test.batches(64, Order::Stored) {
        let x = batch?.inputs.remove(0);
        let simulated = tch::no_grad(|| runner.run(&[x.shallow_clone()], Mode::Predict))?.swap_remove(0);
        let (ours, theirs) = (top(&simulated)?, top(&runtime.run(std::slice::from_ref(&x))?)?);
        different += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        count += ours.len();
    }
    let share = different as f64 / count.max(1) as f64 * 100.0;
    println!(
        "The simulation of {name} and the file in ONNX Runtime differ in their answer to {different} of {count} samples ({share:.2} %).\n"
    );
    Ok(())
}

/// What quantizing takes of memory, with few samples and with many: each in a process of its own, since memory that was once taken stays.
fn memory(name: &str, path: &Path, data: &str, most: usize) -> Outcome<()> {
    for count in [128, 4096].into_iter().filter(|&n| n <= most) {
        let me = std::env::current_exe()?;
        let output = Command::new(me).arg("peak").arg(path).arg(data).arg(count.to_string()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        println!(
            "Quantizing {name} with {count} samples adds {} of memory at its peak.",
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    println!();
    Ok(())
}

/// Prints what quantizing a model with so many samples adds to the memory of this process.
pub fn peak(path: &Path, data: &str, count: usize) -> Outcome<()> {
    let (all, float) = (Dataset::open(&parse(data)?)?, load(path, &Options::default())?);
    let config: QuantizeConfig = parse(&format!("samples: {count}"))?;
    let (quantized, peak) = peak_memory(|| quantize(&config, &float, &all));
    quantized?;
    println!("{}", peak.map_or("an unknown amount".to_string(), |p| Bytes(p).to_string()));
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> Outcome<T> {
    Ok(serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(yaml))?)
}

fn run_all(model: &Model, split: &Split) -> Outcome<()> {
    let runner = tch::no_grad(|| Runner::new(model))?;
    for batch in split.batches(64, Order::Stored) {
        let batch = batch?;
        tch::no_grad(|| runner.run(&batch.inputs, Mode::Predict))?;
    }
    Ok(())
}

fn quantize(config: &QuantizeConfig, float: &Model, data: &Dataset) -> Result<Model, StageError> {
    let teacher = |_: &TeacherRef| -> Result<Model, StageError> { Ok(float.copy()) };
    apply(config, float.copy(), &Context { teacher: &teacher, ..Context::alone(data, &GENERIC) })
}

/// The accuracy of the exported file in ONNX Runtime.
fn score(model: &Model, folder: &Path, data: &Dataset) -> Outcome<f64> {
    let path = folder.join("ours.onnx");
    explicit(model)?.save(&path)?;
    let mut runtime = OnnxRuntime::open(&path)?;
    let mut predict = |x: &[Tensor]| runtime.run_all(x).map_err(|e| TaskError::Runtime(e.to_string()));
    Ok(evaluate_with(&mut predict, &data.test, data.task, None, None)?.value)
}

fn write_arrays(path: &Path, split: &Split) -> Outcome<()> {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for batch in split.batches(256, Order::Stored) {
        let batch = batch?;
        values.extend(to_f32s(batch.x())?);
        labels.extend(batch.y.as_ref().map(to_i64s).transpose()?.unwrap_or_default());
    }
    let count = labels.len() as u64;
    let shape: Vec<u64> = std::iter::once(count).chain(split.shape().iter().map(|&n| n as u64)).collect();
    let mut archive = npyz::npz::NpzWriter::create(path)?;
    let mut x = archive.array("x", Default::default())?.default_dtype().shape(&shape).begin_nd()?;
    x.extend(values)?;
    x.finish()?;
    let mut y = archive.array("y", Default::default())?.default_dtype().shape(&[count]).begin_nd()?;
    y.extend(labels)?;
    y.finish()?;
    Ok(())
}
