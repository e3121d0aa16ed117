//! Kernels beside those of peers, on the same arrays in the same run.

use std::path::Path;
use std::time::Instant;

use sinter_export::{pack, unpack};
use sinter_model::zoo::ZooModel;
use sinter_model::{Granularity, Levels, Model, NmPattern, QuantParams, Quantizer, Role, Weight};
use tch::{Kind, Tensor};

use crate::Outcome;
use crate::peers::Peers;
use crate::table::Table;

/// All kernels.
pub fn all(peers: &Peers, scratch: &Path, exact: bool) -> Outcome<()> {
    std::fs::create_dir_all(scratch)?;
    println!("{} threads\n", tch::get_num_threads());
    means(peers, scratch, exact)?;
    masks(peers, scratch)?;
    coding(peers, scratch)
}

/// The least time of several runs, in seconds, and what the last one gave.
pub(crate) fn best<T>(times: usize, mut work: impl FnMut() -> T) -> (f64, T) {
    let mut timed = || {
        let start = Instant::now();
        let result = work();
        (start.elapsed().as_secs_f64(), result)
    };
    let first = timed();
    (1..times).fold(first, |(least, _), _| {
        let (seconds, result) = timed();
        (least.min(seconds), result)
    })
}

pub(crate) fn milliseconds(seconds: f64) -> String {
    format!("{:.0} ms", seconds * 1e3)
}

pub(crate) fn slower(peer: f64, ours: f64) -> String {
    format!("{:.1}x", peer / ours)
}

/// Bytes of floats, as NumPy reads them.
pub(crate) fn write_floats(path: &Path, values: &[f32]) -> std::io::Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(path, bytes)
}

fn gaussian(shape: &[i64], seed: u64) -> Result<Tensor, tch::TchError> {
    sinter_model::seeded(seed, |random| random.normal(shape))
}

/// Scalar k-means of 2.36 million Gaussian weights (the size of a 512 x 512 x 3 x 3 convolution).
fn means(peers: &Peers, scratch: &Path, exact: bool) -> Outcome<()> {
    let values = sinter_model::to_f32s(&gaussian(&[512, 512, 3, 3], 1)?)?;
    let path = scratch.join("weights.f32");
    write_floats(&path, &values)?;
    for k in [16usize, 256] {
        let (seconds, found) = best(5, || sinter_cluster::algorithms::scalar::fit(values.clone(), k));
        let mode = if k == 16 || exact { "exact" } else { "quick" };
        let others = peers.run("kmeans", &path, &[&k.to_string(), mode])?;
        let optimum = others.iter().find(|p| p.name.contains("exact")).and_then(|p| p.value);
        let least = optimum.unwrap_or(found.inertia);
        let note = if optimum.is_some() { "optimum" } else { "ours" };
        let title = format!("k-means, {} weights, k = {k}", values.len());
        let mut table = Table::new(&title, &["", "time", "peer / ours", &format!("inertia / {note}")]);
        table.row(&["Sinter".into(), milliseconds(seconds), String::new(), format!("{:.4}", found.inertia / least)]);
        for peer in others {
            let reached = peer.value.map_or(String::new(), |v| format!("{:.4}", v / least));
            table.row(&[peer.name, milliseconds(peer.seconds), slower(peer.seconds, seconds), reached]);
        }
        table.print();
    }
    Ok(())
}

/// Masks of a 4096 x 4096 weight.
fn masks(peers: &Peers, scratch: &Path) -> Outcome<()> {
    let side = 4096;
    let weight = gaussian(&[side, side], 2)?;
    let path = scratch.join("square.f32");
    write_floats(&path, &sinter_model::to_f32s(&weight)?)?;
    let others = peers.run("masks", &path, &[&side.to_string()])?;
    let (runs, _) = best(5, || sinter_prune::nm_mask(&weight, NmPattern { n: 2, m: 4, axis: 1 }));
    let (share, _) = best(5, || sinter_prune::magnitude_mask(&weight, 0.9));
    let mut table = Table::new("masks of 4096 x 4096 weights", &["", "time", "peer / ours"]);
    for (name, ours, peer) in [("2:4", runs, &others[0]), ("90 % by magnitude", share, &others[1])] {
        table.row(&[format!("Sinter, {name}"), milliseconds(ours), String::new()]);
        table.row(&[peer.name.clone(), milliseconds(peer.seconds), slower(peer.seconds, ours)]);
    }
    table.print();
    Ok(())
}

/// A model with one weight: integers of four bits.
fn one_weight(integers: &Tensor) -> Outcome<Model> {
    let quantizer = Quantizer::new(&QuantParams::scaled(4, Levels::Symmetric, Granularity::Tensor, &[0.0625])?)?;
    let mut weight = Weight::new(Role::Parameter, quantizer.dequantize(integers)?);
    weight.quantize(quantizer)?;
    let mut model = ZooModel::Lenet300100.build(&[1, 2, 2], 2, 1)?;
    model.weights.clear();
    model.weights.insert("weight".into(), weight);
    Ok(model)
}

/// Lossless coding of 4-bit weights: size against the zero-order entropy, and the speed of reading.
fn coding(peers: &Peers, scratch: &Path) -> Outcome<()> {
    let shape = [1024i64, 2304];
    let dense = gaussian(&shape, 3)?;
    let sparse = &dense * (gaussian(&shape, 4)?.abs().gt(1.6449)).to_kind(Kind::Float);
    for (name, weight, step) in [("Gaussian", &dense, 0.55), ("90 % sparse", &sparse, 0.35)] {
        let integers = (weight / step).round().clamp(-7.0, 7.0).to_kind(Kind::Int64);
        let values = sinter_model::to_i64s(&integers)?;
        let n = values.len() as f64;
        let mut counts = std::collections::BTreeMap::new();
        values.iter().for_each(|v| *counts.entry(*v).or_insert(0.0) += 1.0);
        let entropy: f64 = counts.values().map(|c: &f64| -c / n * (c / n).log2()).sum();
        let path = scratch.join("integers.i8");
        std::fs::write(&path, values.iter().map(|&v| v as i8 as u8).collect::<Vec<u8>>())?;
        let model = one_weight(&integers)?;
        let (written, packed) = best(3, || pack(&model));
        let packed = packed?;
        let (read, back) = best(5, || unpack(&packed.bytes));
        let same = back?.weights["weight"].effective()?.equal(&model.weights["weight"].effective()?);
        assert!(same, "the weights did not come back");
        let title = format!("lossless coding, {name} int4, entropy {entropy:.4} bit");
        let mut table = Table::new(&title, &["", "bits a weight", "of the entropy", "time to write"]);
        let mut row = |name: String, bytes: f64, seconds: f64| {
            let bits = bytes * 8.0 / n;
            table.row(&[name, format!("{bits:.4}"), format!("{:.4}", bits / entropy), milliseconds(seconds)]);
        };
        row("Sinter, whole file".into(), packed.bytes.len() as f64, written);
        for peer in peers.run("coding", &path, &[])? {
            row(peer.name, peer.value.unwrap_or(f64::NAN), peer.seconds);
        }
        table.print();
        println!("Reading: {:.0} ms, {:.0} MB/s of float32.\n", read * 1e3, n * 4.0 / read / 1e6);
    }
    Ok(())
}
