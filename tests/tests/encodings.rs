//! The chain holds whatever the order of the stages: sparsity, N:M validity, the number of distinct values, the quantizer; and the packed file
//! gives it all back, or an error.

use proptest::prelude::*;
use sinter_export::{pack, unpack};
use sinter_fixtures::normal;
use sinter_model::zoo::ZooModel;
use sinter_model::{Codebook, Granularity, Levels, Mask, Model, NmPattern, QuantParams, Quantizer, Role, Weight, to_f32s};
use sinter_prune::{magnitude_mask, nm_mask};
use tch::Tensor;

#[derive(Debug, Clone, Copy)]
enum Step {
    Sparse(f64),
    TwoOfFour,
    Cluster(usize),
    Quantize(u8),
    /// What training does: the latent tensor and the centroids move.
    Train,
    /// What structured pruning does: half of the outputs go.
    Shrink,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0.1..0.9f64).prop_map(Step::Sparse),
        Just(Step::TwoOfFour),
        (3usize..20).prop_map(Step::Cluster),
        (3u8..9).prop_map(Step::Quantize),
        Just(Step::Train),
        Just(Step::Shrink),
    ]
}

fn apply(weight: &mut Weight, step: Step) {
    let value = weight.effective().unwrap().detach();
    match step {
        Step::Sparse(share) => weight.prune(Mask::new(&magnitude_mask(&value, share).unwrap(), None).unwrap()).unwrap(),
        Step::TwoOfFour => {
            let p = NmPattern { n: 2, m: 4, axis: 1 };
            weight.prune(Mask::new(&nm_mask(&value, p).unwrap(), Some(p)).unwrap()).unwrap();
        }
        Step::Cluster(k) => {
            let (low, high) = (value.min().double_value(&[]) as f32, value.max().double_value(&[]) as f32);
            let mut centroids: Vec<f32> = (0..k - 1).map(|i| low + (high - low) * i as f32 / (k - 1) as f32).collect();
            centroids.push(0.0);
            let keep = weight.mask().map(|m| m.keep().shallow_clone());
            weight.cluster(Codebook::assign(&centroids, &value, keep.as_ref()).unwrap()).unwrap();
        }
        Step::Quantize(bits) => {
            let shape = if weight.codebook().is_some() { Granularity::Tensor } else { Granularity::Channel(0) };
            let rows = if shape == Granularity::Tensor { value.reshape([1, -1]) } else { value.shallow_clone() };
            let magnitude = to_f32s(&rows.abs().amax([1], false)).unwrap();
            let params = QuantParams::symmetric(bits, shape, &magnitude).unwrap();
            weight.quantize(Quantizer::new(&params).unwrap()).unwrap();
        }
        Step::Train => {
            let moved = weight.latent() + normal(8, &weight.size()) * 0.1;
            weight.set_latent(moved.detach()).unwrap();
            if let Some(codebook) = weight.codebook_mut() {
                let moved = codebook.centroids() + normal(9, &codebook.centroids().size()) * 0.1;
                codebook.set_centroids(moved.detach()).unwrap();
            }
        }
        Step::Shrink => {
            let n = weight.size()[0];
            if n >= 2 {
                let keep: Vec<i64> = (0..n).filter(|i| i % 2 == 0).collect();
                weight.select(0, &Tensor::from_slice(&keep)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_step_breaks_an_earlier_one(seed in 0u64..10_000, steps in proptest::collection::vec(step(), 1..9)) {
        let mut weight = Weight::new(Role::Parameter, normal(seed, &[8, 16]));
        let (mut zeros, mut clustered, mut quantized) = (0.0, false, false);
        for &step in &steps {
            // A quantizer per channel over a codebook would part its values; the stage does not do that, nor does the test.
            if matches!(step, Step::Cluster(_)) && weight.quantizer().is_some_and(|g| g.granularity() != Granularity::Tensor) {
                continue;
            }
            apply(&mut weight, step);
            prop_assert_eq!(weight.check().unwrap(), None, "after {:?} of {:?}", step, steps);
            let sparsity = weight.sparsity().unwrap();
            if weight.mask().is_some() && !matches!(step, Step::Shrink) {
                prop_assert!(weight.mask().unwrap().sparsity().unwrap() >= zeros - 1e-9);
                zeros = weight.mask().unwrap().sparsity().unwrap();
                prop_assert!(sparsity >= zeros - 1e-9);
            } else if weight.mask().is_some() {
                zeros = weight.mask().unwrap().sparsity().unwrap();
            }
            clustered |= matches!(step, Step::Cluster(_));
            quantized |= matches!(step, Step::Quantize(_));
            prop_assert_eq!((weight.codebook().is_some(), weight.quantizer().is_some()), (clustered, quantized));
        }
        // Written and read: bit for bit, chain and all.
        let mut model = ZooModel::Lenet300100.build(&[1, 2, 2], 2, 1).unwrap();
        model.weights.insert("fc1.weight".into(), weight);
        let back = unpack(&pack(&model).unwrap().bytes).unwrap();
        let (a, b) = (&model.weights["fc1.weight"], &back.weights["fc1.weight"]);
        prop_assert!(a.effective().unwrap() == b.effective().unwrap());
        prop_assert_eq!(b.check().unwrap(), None);
        prop_assert_eq!(a.codebook().is_some(), b.codebook().is_some());
        prop_assert_eq!(a.mask().and_then(Mask::pattern), b.mask().and_then(Mask::pattern));
    }

    #[test]
    fn damaged_files_are_errors(position in 0.0..1.0f64, value in any::<u8>(), cut in 0.0..1.0f64, mend in any::<bool>()) {
        let bytes = packed();
        let mut damaged = bytes[..(bytes.len() as f64 * cut) as usize].to_vec();
        prop_assert!(unpack(&damaged).is_err());
        damaged = bytes.to_vec();
        let at = ((bytes.len() - 5) as f64 * position) as usize;
        if damaged[at] != value {
            damaged[at] = value;
            if mend {
                // A hostile file has a right checksum; it may be read or refused, but nothing worse.
                let mut crc = flate2::Crc::new();
                let end = damaged.len() - 4;
                crc.update(&damaged[..end]);
                let sum = crc.sum().to_le_bytes();
                damaged[end..].copy_from_slice(&sum);
                let _ = unpack(&damaged);
            } else {
                prop_assert!(unpack(&damaged).is_err());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Hostile files: several bytes changed at once, lengths among them, under a right checksum.
    #[test]
    fn hostile_files_end_soon(changes in proptest::collection::vec((0.0..1.0f64, any::<u8>()), 1..8), head in any::<bool>()) {
        let mut bytes = packed().to_vec();
        let end = bytes.len() - 4;
        for (place, value) in changes {
            // Lengths stand at the beginning, after magic and version.
            let span = if head { 16 } else { end - 7 };
            bytes[7 + (span as f64 * place) as usize] = value;
        }
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc.sum().to_le_bytes());
        let _ = unpack(&bytes);
    }

    #[test]
    fn noise_is_an_error(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = [b"SINTER\x02", &noise[..]].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        bytes.extend(crc.sum().to_le_bytes());
        prop_assert!(unpack(&bytes).is_err());
    }
}

fn packed() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let mut model: Model = ZooModel::Lenet300100.build(&[1, 4, 4], 3, 1).unwrap();
        apply(model.weight_mut("fc1.weight").unwrap(), Step::Sparse(0.6));
        apply(model.weight_mut("fc1.weight").unwrap(), Step::Cluster(9));
        apply(model.weight_mut("fc2.weight").unwrap(), Step::Quantize(4));
        model
            .activations
            .insert("input".into(), Quantizer::new(&QuantParams::affine(8, Levels::Unsigned, -1.0, 3.0).unwrap()).unwrap());
        pack(&model).unwrap().bytes
    })
}

#[test]
fn a_broken_chain_names_weight_and_link() {
    // A mask that claims 2:4 and is not: caught by the check that the runner makes after every stage.
    let mut model = ZooModel::Lenet300100.build(&[1, 4, 4], 3, 1).unwrap();
    let weight = model.weight_mut("fc1.weight").unwrap();
    let dense = Mask::new(&weight.latent().ones_like(), Some(NmPattern { n: 2, m: 4, axis: 1 })).unwrap();
    weight.prune(dense).unwrap();
    let error = model.check().unwrap_err().to_string();
    assert!(error.contains("weight `fc1.weight` breaks its mask") && error.contains("2:4 allows 2"), "{error}");
}

#[test]
fn quantized_gaussian_weights_come_near_their_entropy() {
    let value = normal(4, &[512, 512]);
    let mut weight = Weight::new(Role::Parameter, value.shallow_clone());
    let params = QuantParams::symmetric(4, Granularity::Tensor, &[2.4]).unwrap();
    weight.quantize(Quantizer::new(&params).unwrap()).unwrap();
    let q = weight.quantizer().unwrap().quantize(&weight.effective().unwrap()).unwrap();
    let mut counts = [0f64; 32];
    sinter_model::to_i64s(&q).unwrap().iter().for_each(|&v| counts[(v + 16) as usize] += 1.0);
    let n = q.numel() as f64;
    let entropy: f64 = counts.iter().filter(|c| **c > 0.0).map(|c| -c / n * (c / n).log2()).sum();
    let mut model = ZooModel::Lenet300100.build(&[1, 4, 4], 3, 1).unwrap();
    model.weights.insert("fc1.weight".into(), weight);
    let bits = pack(&model).unwrap().tensors["fc1.weight"] * 8.0 / n;
    assert!(bits < entropy * 1.01, "{bits} bits a weight, entropy {entropy}");
}
