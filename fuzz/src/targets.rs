//! The kinds of files.

use std::path::Path;

use arbitrary::{Result, Unstructured};
use sinter_data::{DataConfig, Dataset, Order};
use sinter_fixtures::{everything, fixture, normal, operators, parse, write_bars, write_language, write_npz};
use sinter_model::Model;
use sinter_pipeline::{Changes, Plan};

/// A kind of file.
pub struct Target {
    /// On the command line and in tables.
    pub name: &'static str,
    /// Files that are right.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes one wrong.
    pub mutate: fn(&[u8], &mut Unstructured) -> Result<Vec<u8>>,
    /// Reads it, in a folder of its own.
    pub run: fn(&[u8], &Path),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "onnx", seeds: onnx_seeds, mutate: crate::onnx::mutate, run: onnx },
    Target { name: "tflite", seeds: tflite_seeds, mutate: plain, run: tflite },
    Target { name: "packed", seeds: packed_seeds, mutate: plain, run: packed },
    Target { name: "npz", seeds: npz_seeds, mutate: plain, run: |bytes, at| data(bytes, at, "x.npz", "numpy: { path: x.npz }") },
    Target { name: "npy", seeds: npy_seeds, mutate: plain, run: |bytes, at| data(bytes, at, "x.npy", "numpy: { path: x.npy }") },
    Target { name: "idx", seeds: idx_seeds, mutate: plain, run: idx },
    Target {
        name: "csv",
        seeds: csv_seeds,
        mutate: plain,
        run: |bytes, at| data(bytes, at, "t.csv", "csv: { path: t.csv, label: kind }"),
    },
    Target {
        name: "image",
        seeds: image_seeds,
        mutate: plain,
        run: |bytes, at| data(bytes, at, "p/a/0.png", "images: { path: p }"),
    },
    Target { name: "wav", seeds: wav_seeds, mutate: plain, run: |bytes, at| data(bytes, at, "w/a/0.wav", "wav: { path: w }") },
    Target {
        name: "pipeline",
        seeds: || vec![PIPELINE.into(), STAGES.into()],
        mutate: text,
        run: |bytes, at| plan(bytes, at, "p.yaml"),
    },
    Target { name: "extends", seeds: || vec![UPON.into()], mutate: text, run: |bytes, at| plan(bytes, at, "upon.yaml") },
    Target {
        name: "set",
        seeds: || SETS.iter().map(|set| set.as_bytes().to_vec()).collect(),
        mutate: plain,
        run: |bytes, at| plan(bytes, at, "set"),
    },
    Target {
        name: "config",
        seeds: || language("config.json"),
        mutate: plain,
        run: |bytes, at| folder(bytes, at, "config.json"),
    },
    Target {
        name: "index",
        seeds: || language("model.safetensors.index.json"),
        mutate: plain,
        run: |bytes, at| folder(bytes, at, "model.safetensors.index.json"),
    },
    Target {
        name: "safetensors",
        seeds: || language("model.safetensors"),
        mutate: plain,
        run: |bytes, at| folder(bytes, at, "model.safetensors"),
    },
    Target { name: "tokenizer", seeds: tokenizer_seeds, mutate: plain, run: tokenizer },
    Target { name: "data", seeds: || vec![DATA.into()], mutate: text, run: |bytes, at| plan(bytes, at, "bars.yaml") },
    Target { name: "target", seeds: target_seeds, mutate: text, run: |bytes, at| plan(bytes, at, "target.yaml") },
];

fn plain(bytes: &[u8], u: &mut Unstructured) -> Result<Vec<u8>> {
    crate::bytes::mutate(bytes.to_vec(), u)
}

fn text(bytes: &[u8], u: &mut Unstructured) -> Result<Vec<u8>> {
    crate::yaml::mutate(&String::from_utf8_lossy(bytes), u)
}

fn write(at: &Path, name: &str, bytes: &[u8]) {
    let path = at.join(name);
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, bytes));
    made.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn models() -> Vec<Model> {
    let mut all: Vec<Model> = operators().into_iter().map(|(_, model)| model).collect();
    all.push(everything());
    all
}

fn onnx_seeds() -> Vec<Vec<u8>> {
    let plain = models();
    let plain = plain.iter().filter_map(|m| sinter_onnx::export(m).ok());
    plain.chain(sinter_fixtures::control::files().into_iter().map(|(_, bytes)| bytes)).collect()
}

fn onnx(bytes: &[u8], at: &Path) {
    write(at, "model.onnx", bytes);
    if let Ok(model) = sinter_onnx::load(&at.join("model.onnx"), &sinter_onnx::Options::default()) {
        let _macs = sinter_exec::macs(&model);
        let _packed = sinter_export::pack(&model);
        let _program = sinter_export::device::lower(&model);
    }
}

/// That file of every folder of a language model that has one.
fn language(file: &str) -> Vec<Vec<u8>> {
    let folders = std::fs::read_dir(fixture("language")).into_iter().flatten().flatten();
    folders.filter_map(|f| std::fs::read(f.path().join(file)).ok()).collect()
}

/// A folder of a language model, one file of which is this.
fn folder(bytes: &[u8], at: &Path, file: &str) {
    let from = if file.ends_with("index.json") { "llama3-shards" } else { "qwen3" };
    for entry in std::fs::read_dir(fixture("language").join(from)).into_iter().flatten().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        write(at, &entry.file_name().to_string_lossy(), &bytes);
    }
    write(at, file, bytes);
    if let Ok((model, _)) = sinter_hub::read(at, 12) {
        let _macs = sinter_exec::macs(&model);
        let _folder = sinter_hub::compressed_tensors::write(&model, at, &at.join("out"));
    }
}

fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    write_language(folder.path());
    vec![std::fs::read(folder.path().join("model/tokenizer.json")).unwrap_or_default()]
}

/// A text that this tokenizer cuts, and a GGUF file that holds it.
fn tokenizer(bytes: &[u8], at: &Path) {
    write_language(at);
    write(at, "model/tokenizer.json", bytes);
    let mut config: DataConfig = parse(&std::fs::read_to_string(at.join("data.yaml")).unwrap_or_default());
    config.rebase(at);
    let _data = Dataset::open(&config);
    if let Ok((model, _)) = sinter_hub::read(&at.join("model"), 8) {
        let _file = sinter_hub::gguf::write(&model, &at.join("model"), &at.join("model.gguf"));
    }
}

fn tflite_seeds() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixture("tflite")).into_iter().flatten().flatten();
    entries.filter(|e| e.path().extension().is_some_and(|x| x == "tflite")).filter_map(|e| std::fs::read(e.path()).ok()).collect()
}

fn tflite(bytes: &[u8], _at: &Path) {
    if let Ok(model) = sinter_tflite::import(bytes) {
        let _certificate = sinter_certify::certify(&model, None, &[sinter_certify::Reference::Unrounded]);
    }
}

fn packed_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = models().iter().filter_map(|m| Some(sinter_export::pack(m).ok()?.bytes)).collect();
    seeds.extend(std::fs::read(fixture("formats/packed-2.sinter")));
    seeds
}

fn packed(bytes: &[u8], _at: &Path) {
    // Behind the checksum is where the reader is: half of all files get a right one.
    let whole = |bytes: &[u8]| {
        if let Ok(model) = sinter_export::unpack(bytes) {
            let _explicit = sinter_export::explicit(&model);
        }
    };
    whole(bytes);
    whole(&sinter_export::with_checksum(bytes));
}

fn npz_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let path = folder.path().join("x.npz");
    write_npz(&path, &normal(1, &[6, 2, 3]), (0..6).map(|i| i % 3));
    vec![std::fs::read(&path).unwrap_or_default()]
}

fn npy_seeds() -> Vec<Vec<u8>> {
    let of = |descr: &str, order: &str, bytes: usize| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': (6, 2, 3), }}");
        header.extend(std::iter::repeat_n(' ', 117 - header.len()));
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(vec![1u8; 36 * bytes]);
        file
    };
    vec![of("<f4", "False", 4), of(">f8", "True", 8), of("|u1", "False", 1), of("<f2", "False", 2)]
}

fn csv_seeds() -> Vec<Vec<u8>> {
    vec![
        b"kind,a,b\ncat,1,2\ndog,3,4\ncat,5,6\n".to_vec(),
        "\u{feff}\"kind\",\"a\"\r\n\"0\",\"1.5\"\r\n\"1\",\"-2e3\"\r\n".into(),
    ]
}

fn image_seeds() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fixture("formats/images")).into_iter().flatten().flatten();
    entries.filter(|e| e.path().extension().is_some_and(|x| x != "json")).filter_map(|e| std::fs::read(e.path()).ok()).collect()
}

fn wav_seeds() -> Vec<Vec<u8>> {
    let of = |channels: u16, bits: u16, format: u16| {
        let data = vec![3u8; 3200 * usize::from(channels * bits / 8)];
        let frame = u32::from(channels) * u32::from(bits) / 8;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + data.len() as u32).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0");
        file.extend(format.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(16_000u32.to_le_bytes());
        file.extend((16_000 * frame).to_le_bytes());
        file.extend((frame as u16).to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    };
    vec![of(1, 16, 1), of(2, 24, 1), of(1, 32, 3), of(1, 8, 1)]
}

fn data(bytes: &[u8], at: &Path, name: &str, source: &str) {
    write(at, name, bytes);
    let mut config: DataConfig = parse(&format!("name: d\nsource: {{ {source} }}\nsplit: {{ test: 40% }}"));
    config.rebase(at);
    if let Ok(data) = Dataset::open(&config) {
        for split in [&data.train, &data.test] {
            split.batches(4, Order::Stored).for_each(drop);
        }
    }
}

fn idx_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    write_bars(folder.path(), 4, 4);
    let plain = std::fs::read(folder.path().join("train-images-idx3-ubyte.gz")).unwrap_or_default();
    // A stored block of deflate in a gzip frame without a right checksum: the reader must mind.
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1];
    gzip.extend((plain.len() as u16).to_le_bytes());
    gzip.extend((!(plain.len() as u16)).to_le_bytes());
    gzip.extend(&plain);
    gzip.extend([0; 8]);
    vec![plain, gzip]
}

fn idx(bytes: &[u8], at: &Path) {
    write_bars(at, 4, 4);
    data(bytes, at, "train-images-idx3-ubyte.gz", "idx: { folder: . }");
    write_bars(at, 4, 4);
    data(bytes, at, "t10k-labels-idx1-ubyte.gz", "idx: { folder: . }");
}

const PIPELINE: &str = "name: p\nseed: 3\nmodel: { zoo: lenet-300-100 }\ndata: bars.yaml\ntarget: target.yaml\nbudget: { accuracy_drop: 2%, flash: 64 KiB, ram: 8 KiB, latency: 1 s, energy: 1 mJ }\nstages:\n  - train: { epochs: 2, optimizer: { adam: { beta1: 0.9, beta2: 0.99 } }, lr: 1e-3, batch_size: 32 }\n  - prune: { structured: { ratio: 20%, criterion: taylor } }\n  - quantize: { weights: int8/channel, activations: uint8 }\nexport: [packed, onnx, tflite, c]\n";
const STAGES: &str = "name: p\nmodel: { zoo: lenet-300-100 }\ndata: bars.yaml\nstages:\n  - prune: { unstructured: { sparsity: 80%, scope: global }, schedule: { cubic: { until: 70%, every: 10 } }, finetune: { epochs: 2 } }\n  - cluster: { centroids: 16, vector: 1, entropy: 0.1, finetune: { epochs: 1 } }\n  - quantize: { mode: qat, samples: 32, calibrate: { percentile: { outside: 0.1% } }, accuracy_drop: 1%, layers: [{ match: 'fc*', weights: int4 }], finetune: { epochs: 1, lr: 1e-4 } }\nexport: [packed]\n";
const UPON: &str = "extends: p.yaml\nvars: { A: 30%, B: { env: HOME, default: 7 }, C: [packed] }\nname: p-${B}\nstages:\n  - prune: { structured: { ratio: \"${A}\" } }\n  - name: again\n    train: { epochs: 1 }\n    after: 2-prune\n  - quantize: ~\nexport: ${C}\n";
const SETS: &[&str] = &[
    "stages.2.prune.structured.ratio=60%",
    "stages.quantize={ weights: int4/channel }\nseed=4\nbudget=~",
    "stages.1-train.name=first\nstages.first.epochs=3\nexport.2=packed",
    "stages.3=~\nname=${A}\nvars.A=x",
];
const DATA: &str = "name: bars\nsource: { idx: { folder: . } }\nnormalize: { mean: [0.3], std: [0.25] }\naugment: { shift: 2, flip: true, noise: 0.1 }\nsplit: { validation: 10%, test: 20%, seed: 3, limit_train: 50, limit_test: 20 }\nclasses: [a, b, c, d]\n";

fn target_seeds() -> Vec<Vec<u8>> {
    let folder = sinter_fixtures::root().join("configs/targets");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| std::fs::read(e.path()).ok()).collect()
}

/// Plans a pipeline of which one file is not as it should be.
fn plan(bytes: &[u8], at: &Path, name: &str) {
    write_bars(at, 8, 8);
    let target = sinter_fixtures::root().join("configs/targets/generic.yaml");
    write(at, "target.yaml", &std::fs::read(target).unwrap_or_default());
    write(at, "p.yaml", PIPELINE.as_bytes());
    let mut changes = Changes::default();
    let mut pipeline = "p.yaml";
    match name {
        "set" => changes.set = String::from_utf8_lossy(bytes).lines().map(String::from).collect(),
        _ => write(at, name, bytes),
    }
    if name == "upon.yaml" {
        pipeline = name;
    }
    if let Ok(plan) = Plan::read(&at.join(pipeline), &changes) {
        let _outline = plan.outline();
    }
}
