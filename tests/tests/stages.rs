//! Stages in any order on random graphs: what one stage reached, later ones keep. Sparsity, N:M patterns and the number of distinct
//! weights are compared exactly, and the packed file gives every weight back bit for bit.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sinter_data::Dataset;
use sinter_estimate::GENERIC;
use sinter_export::{pack, unpack};
use sinter_fixtures::{normal, parse, write_npz};
use sinter_model::zoo::Builder;
use sinter_model::{Model, NmPattern, to_f32s};
use sinter_pipeline::StageConfig;
use sinter_train::{Context, Forecast, Setting, StageError, apply};
use tch::{Device, Kind, Tensor};

/// Parts that a random graph is made of.
#[derive(Debug, Clone, Copy)]
enum Part {
    Conv(i64),
    Residual,
    Depthwise,
    Pool,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![(1i64..4).prop_map(|n| Part::Conv(4 * n)), Just(Part::Residual), Just(Part::Depthwise), Just(Part::Pool)]
}

fn graph(parts: &[Part], hidden: i64, seed: u64) -> Model {
    let mut b = Builder::new("random", &[1, 8, 8], seed);
    let mut x = b.conv("stem", "input", 8, [3, 3], 1, 1, "SAME_UPPER");
    let mut pooled = 0;
    for (i, part) in parts.iter().enumerate() {
        let name = format!("part{i}");
        x = match part {
            Part::Conv(out) => b.conv_bn_relu(&name, &x, *out, [3, 3], 1, 1),
            Part::Depthwise => {
                let channels = b.channels(&x);
                b.conv_bn_relu(&name, &x, channels, [3, 3], 1, channels)
            }
            Part::Residual => {
                let channels = b.channels(&x);
                let y = b.conv_bn_relu(&format!("{name}.a"), &x, channels, [3, 3], 1, 1);
                let y = b.conv_bn(&format!("{name}.b"), &y, channels, [3, 3], 1, 1);
                b.add(&format!("{name}.add"), &x, &y)
            }
            Part::Pool if pooled < 2 => {
                pooled += 1;
                b.max_pool(&x, 2)
            }
            Part::Pool => b.relu(&x),
        };
    }
    let x = b.flatten(&x);
    let x = b.dense("fc1", &x, 4 * hidden);
    let x = b.relu(&x);
    let x = b.dense("fc2", &x, 3);
    b.finish(&x).unwrap()
}

/// Three classes that differ in the mean of their samples.
fn data() -> Dataset {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    let class = Tensor::arange(96, (Kind::Int64, Device::Cpu)).remainder(3);
    let x = normal(3, &[96, 1, 8, 8]) + class.reshape([96, 1, 1, 1]) - 1.0;
    write_npz(&path, &x, (0..96).map(|i| i % 3));
    let data = Dataset::open(&parse(&format!("name: three\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap();
    // Arrays are read when the data set is opened.
    drop(folder);
    data
}

const PRUNES: [&str; 12] = [
    "{ unstructured: { sparsity: 60% } }",
    "{ unstructured: { sparsity: 70%, scope: global }, schedule: { cubic: { every: 1 } }, finetune: { epochs: 2 } }",
    "{ unstructured: { sparsity: 50%, criterion: movement }, schedule: { cubic: { every: 1 } }, finetune: { epochs: 2 } }",
    "{ unstructured: { sparsity: 50%, criterion: wanda } }",
    "{ unstructured: { sparsity: 50%, criterion: fisher, scope: macs } }",
    "{ unstructured: { sparsity: 50%, block: [2, 3] }, schedule: { iterative: { rounds: 2, rewind: weights } }, finetune: { epochs: 1 } }",
    "{ unstructured: { sparsity: 55%, scope: sensitivity } }",
    "{ unstructured: { sparsity: 60%, criterion: obs } }",
    "{ pattern: \"2:4\", criterion: obs, layers: [fc*] }",
    "{ pattern: \"1:4\", layers: [fc1], finetune: { epochs: 1 } }",
    "{ structured: { ratio: 40%, criterion: geometric-median } }",
    "{ structured: { ratio: 30%, scope: macs, criterion: taylor } }",
];
const CLUSTERS: [&str; 7] = [
    "{ centroids: 9 }",
    "{ centroids: 6, entropy: 0.05, finetune: { epochs: 2 } }",
    "{ centroids: 5, scope: channel }",
    "{ centroids: 12, vector: 3, importance: hessian, finetune: { epochs: 1 } }",
    "{ centroids: 12, scope: shared, finetune: { epochs: 1 } }",
    "{ budget: 3 KiB, importance: hessian }",
    "{ centroids: 8, importance: hessian, reassign: 1, finetune: { epochs: 1 } }",
];
const LATER: [&str; 3] = [
    "distill: { epochs: 1 }",
    "quantize: { weights: int8/channel, activations: uint8, mode: qat, finetune: { epochs: 1, lr: 1e-4, distill: {} } }",
    "train: { epochs: 1 }",
];
const FORMATS: [&str; 5] = ["int8/channel", "int4/group:3", "ternary/channel", "int3", "fp16"];

/// What a layer has reached.
#[derive(Debug, Clone)]
struct Reached {
    shape: Vec<i64>,
    zeros: Vec<bool>,
    pattern: Option<NmPattern>,
    /// The values that its tables allow; a mask over vectors adds zero.
    centroids: Option<usize>,
}

fn distinct(values: &[f32]) -> usize {
    let mut bits: Vec<u32> = values.iter().map(|v| if *v == 0.0 { 0 } else { v.to_bits() }).collect();
    bits.sort_unstable();
    bits.dedup();
    bits.len()
}

fn reached(model: &Model) -> BTreeMap<String, Reached> {
    let of = |name: &String| {
        let weight = &model.weights[name];
        let values = to_f32s(&weight.effective().unwrap()).unwrap();
        let zeros = match weight.mask() {
            Some(mask) => to_f32s(mask.keep()).unwrap().iter().map(|k| *k == 0.0).collect(),
            None => vec![false; values.len()],
        };
        assert!(zeros.iter().zip(&values).all(|(z, v)| !z || *v == 0.0), "{name}: a pruned weight is not zero");
        let pattern = weight.mask().and_then(|m| m.pattern());
        let centroids = weight.codebook().map(|c| c.len() * c.dim() + usize::from(c.dim() > 1));
        assert!(centroids.is_none_or(|k| distinct(&values) <= k), "{name}: more distinct values than centroids");
        Reached { shape: weight.size(), zeros, pattern, centroids }
    };
    model.layers().into_iter().map(|l| (l.weight.clone(), of(&l.weight))).collect()
}

/// Structured pruning and a second clustering change what was reached by intent; all else keeps it.
fn compare(before: &BTreeMap<String, Reached>, after: &BTreeMap<String, Reached>, stage: &str) {
    for (name, old) in before {
        let Some(new) = after.get(name) else { continue };
        if old.shape == new.shape {
            let lost = old.zeros.iter().zip(&new.zeros).filter(|(o, n)| **o && !**n).count();
            assert_eq!(lost, 0, "{name} lost zeros in {stage}");
            if !stage.starts_with("prune") {
                assert_eq!(old.zeros, new.zeros, "{name}: other zeros after {stage}");
                assert_eq!(old.pattern, new.pattern, "{name}: another pattern after {stage}");
            }
        }
        if old.shape == new.shape && !stage.starts_with("cluster") {
            assert_eq!(old.centroids, new.centroids, "{name}: another number of distinct weights after {stage}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn later_stages_keep_what_earlier_ones_reached(
        parts in proptest::collection::vec(part(), 0..4),
        hidden in 1i64..5,
        seed in 0u64..1000,
        prune in 0..PRUNES.len(),
        second in proptest::option::of(0..8usize),
        cluster in 0..CLUSTERS.len(),
        swap in any::<bool>(),
        later in Just(LATER).prop_shuffle(),
        format in 0..FORMATS.len(),
    ) {
        // The seed's own run of threads would make tests of one machine starve each other.
        tch::set_num_threads(1);
        let mut stages = vec![format!("prune: {}", PRUNES[prune]), format!("cluster: {}", CLUSTERS[cluster])];
        if swap {
            stages.swap(0, 1);
        }
        stages.extend(second.map(|s| format!("prune: {}", PRUNES[s])));
        // A quantized model is not pruned by structure any more, and training comes where it may.
        stages.extend(later.iter().map(|s| s.replace(FORMATS[0], FORMATS[format])));
        let data = data();
        let mut model = graph(&parts, hidden, seed);
        let float = model.copy();
        let teacher = |_: &sinter_train::TeacherRef| Ok::<_, StageError>(float.copy());
        let context = Context { seed, teacher: &teacher, ..Context::alone(&data, &GENERIC) };
        for text in stages {
            let config: StageConfig = parse(&text);
            let before = reached(&model);
            let setting = Setting { data: &data, target: &GENERIC };
            let step = match config.stage().resolve(&mut Forecast::new(&model), &setting) {
                Ok(step) => step,
                // Centroids of several weights each have no single weight to lose: refused, and said so.
                Err(StageError::Config { reason, .. }) if reason.contains("centroids of several weights each") => continue,
                Err(error) => panic!("{text}: {error}"),
            };
            model = step.run(model.copy(), &context).unwrap_or_else(|e| panic!("{text}: {e}"));
            model.check().unwrap();
            compare(&before, &reached(&model), &text);
            let back = unpack(&pack(&model).unwrap().bytes).unwrap();
            for (name, weight) in &model.weights {
                let (ours, read) = (weight.effective().unwrap(), back.weights[name].effective().unwrap());
                prop_assert!(ours.equal(&read), "{} came back changed after {}", name, text);
            }
        }
    }
}

#[test]
fn a_share_of_macs_that_cannot_go_says_what_stands_in_its_way() {
    let (data, model) = (data(), graph(&[Part::Conv(2), Part::Residual], 4, 1));
    let answer = |more: &str| {
        let text = format!("prune: {{ structured: {{ ratio: 99.9%, scope: macs{more} }} }}");
        apply(parse::<StageConfig>(&text).stage(), model.copy(), &Context::alone(&data, &GENERIC)).unwrap_err().to_string()
    };
    assert!(answer("").contains("even one channel a layer has more"), "{}", answer(""));
    let fixed = answer(", layers: [{ match: '*', ratio: 0% }]");
    assert!(fixed.contains("`layers` fixes the shares of some") && fixed.contains("name fewer layers"), "{fixed}");
}
