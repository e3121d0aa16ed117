//! Every source of samples: read, split, normalised, shuffled, refused when damaged.

use std::io::Write;
use std::path::Path;

use sinter_data::{DataConfig, Dataset, Order};
use sinter_fixtures::{parse, write_bars};
use sinter_model::{to_f32s, to_i64s};

fn open(folder: &Path, yaml: &str) -> Result<Dataset, String> {
    let mut config: DataConfig = parse(yaml);
    config.rebase(folder);
    Dataset::open(&config).map_err(|e| e.to_string())
}

fn all(split: &sinter_data::Split, order: Order) -> (Vec<f32>, Vec<i64>) {
    let (mut x, mut y) = (vec![], vec![]);
    for batch in split.batches(7, order) {
        let batch = batch.unwrap();
        x.extend(to_f32s(batch.x()).unwrap());
        y.extend(batch.y.map(|y| to_i64s(&y).unwrap()).unwrap_or_default());
    }
    (x, y)
}

#[test]
fn idx_is_normalised_and_shuffled_the_same_for_the_same_seed() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 50, 20);
    let raw = open(folder.path(), "name: a\nsource: { idx: { folder: . } }\nnormalize: { divide: 1 }").unwrap();
    let data = open(
        folder.path(),
        "name: a\nsource: { idx: { folder: . } }\nnormalize: { mean: [0.5], std: [0.25] }\nsplit: { validation: 20% }",
    )
    .unwrap();
    assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (40, 10, 20));
    assert_eq!((data.shape(), data.classes.len()), (vec![1, 12, 12], 4));
    let (bytes, labels) = all(&raw.test, Order::Stored);
    let (values, same) = all(&data.test, Order::Stored);
    assert_eq!(labels, same);
    for (b, v) in bytes.iter().zip(&values) {
        assert!((v - (b / 255.0 - 0.5) / 0.25).abs() < 1e-5);
    }
    let (a, b, c) =
        (all(&data.train, Order::Shuffled(1)), all(&data.train, Order::Shuffled(1)), all(&data.train, Order::Shuffled(2)));
    assert_eq!(a, b);
    assert_ne!(a, c);
    // A shuffle loses nothing.
    let (mut sorted, mut stored) = (a.1.clone(), all(&data.train, Order::Stored).1);
    sorted.sort_unstable();
    stored.sort_unstable();
    assert_eq!(sorted, stored);
}

#[test]
fn augmentation_moves_training_samples_only() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 30, 10);
    let yaml = "name: a\nsource: { idx: { folder: . } }\naugment: { shift: 2, flip: true, noise: 0.1 }";
    let data = open(folder.path(), yaml).unwrap();
    assert_eq!(all(&data.train, Order::Shuffled(5)), all(&data.train, Order::Shuffled(5)));
    assert_eq!(all(&data.test, Order::Stored), all(&data.test, Order::Stored));
    let plain = open(folder.path(), "name: a\nsource: { idx: { folder: . } }").unwrap();
    assert_eq!(all(&data.train, Order::Stored), all(&plain.train, Order::Stored));
    assert_ne!(all(&data.train, Order::Shuffled(5)).0, all(&plain.train, Order::Shuffled(5)).0);
}

fn write_npy<T: npyz::AutoSerialize + Copy>(path: &Path, shape: &[u64], values: &[T]) {
    use npyz::WriterBuilder;
    let mut writer =
        npyz::WriteOptions::new().default_dtype().shape(shape).writer(std::fs::File::create(path).unwrap()).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn numpy_arrays_of_any_number_type() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f64> = (0..60).map(|v| v as f64 / 2.0).collect();
    write_npy(&folder.path().join("x.npy"), &[10, 2, 3], &values);
    write_npy(&folder.path().join("y.npy"), &[10], &[0u8, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
    let data = open(folder.path(), "name: n\nsource: { numpy: { path: x.npy, labels: y.npy } }\nsplit: { test: 30% }").unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.shape(), data.classes.len()), (7, 3, vec![2, 3], 3));
    let total: f32 = all(&data.train, Order::Stored).0.iter().chain(&all(&data.test, Order::Stored).0).sum();
    assert_eq!(total, 885.0);
    let wrong = open(folder.path(), "name: n\nsource: { numpy: { path: x.npy, labels: x.npy } }").unwrap_err();
    assert!(wrong.contains("labels of shape [10, 2, 3] for 10 samples"), "{wrong}");
}

#[test]
fn csv_tables_with_names_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|i| format!("{i},{},{},x{i}\n", i as f32 * 0.5, ["cat", "ant", "bee"][i % 3])).collect();
    std::fs::write(folder.path().join("t.csv"), format!("a,b,kind,id\n{rows}")).unwrap();
    let yaml = "name: c\nsource: { csv: { path: t.csv, label: kind, ignore: [id] } }";
    let data = open(folder.path(), yaml).unwrap();
    assert_eq!((data.shape(), data.classes.clone()), (vec![2], vec!["ant".to_string(), "bee".into(), "cat".into()]));
    assert_eq!(data.train.len() + data.test.len(), 20);
    let (x, y) = all(&data.train, Order::Stored);
    for (row, label) in x.chunks(2).zip(y) {
        assert_eq!(row[1], row[0] * 0.5);
        assert_eq!(label, [2, 0, 1][row[0] as usize % 3]);
    }
    std::fs::write(folder.path().join("t.csv"), "a,b,kind,id\n1,oops,cat,x\n").unwrap();
    let wrong = open(folder.path(), yaml).unwrap_err();
    assert!(wrong.contains("line 2, column `b`: `oops` is not a finite number"), "{wrong}");
    let wrong = open(folder.path(), &yaml.replace("kind", "sort")).unwrap_err();
    assert!(wrong.contains("no column `sort`; it has a, b, kind, id"), "{wrong}");
}

/// An image of one colour as an uncompressed BMP of 4 x 4.
fn bmp(rgb: [u8; 3]) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend((54u32 + 48).to_le_bytes());
    bytes.extend([0; 4]);
    for v in [54u32, 40, 4, 4] {
        bytes.extend(v.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for _ in 0..16 {
        bytes.extend([rgb[2], rgb[1], rgb[0]]);
    }
    bytes
}

#[test]
fn pictures_in_folders_and_in_a_tar_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("p");
    for part in ["train", "test"] {
        for (class, rgb) in [("red", [200, 0, 0]), ("blue", [0, 0, 100])] {
            for i in 0..3 {
                let path = images.join(part).join(class);
                std::fs::create_dir_all(&path).unwrap();
                std::fs::write(path.join(format!("{i}.bmp")), bmp(rgb)).unwrap();
            }
        }
    }
    let status =
        std::process::Command::new("tar").args(["-cf", "p.tar", "-C", "p", "train", "test"]).current_dir(folder.path()).status();
    assert!(status.unwrap().success());
    let from_folder = open(folder.path(), "name: i\nsource: { images: { path: p } }").unwrap();
    let from_tar = open(folder.path(), "name: i\nsource: { images: { path: p.tar } }").unwrap();
    assert_eq!((from_folder.train.len(), from_folder.test.len(), from_folder.shape()), (6, 6, vec![3, 4, 4]));
    assert_eq!(from_folder.classes, ["blue", "red"]);
    assert_eq!(all(&from_folder.train, Order::Stored), all(&from_tar.train, Order::Stored));
    let (x, y) = all(&from_tar.test, Order::Stored);
    for (image, label) in x.chunks(48).zip(y) {
        let (red, blue) = (image[0], image[32]);
        let wanted = if label == 1 { (200.0, 0.0) } else { (0.0, 100.0) };
        assert!((red * 255.0 - wanted.0).abs() < 1e-3 && (blue * 255.0 - wanted.1).abs() < 1e-3, "{red} {blue}");
    }
    let resized = open(folder.path(), "name: i\nsource: { images: { path: p, size: [2, 8], channels: 1 } }").unwrap();
    assert_eq!(resized.shape(), [1, 2, 8]);
    assert_eq!(all(&resized.test, Order::Stored).0.len(), 6 * 16);
    std::fs::write(images.join("test/red/0.bmp"), b"no image").unwrap();
    let error = open(folder.path(), "name: i\nsource: { images: { path: p } }").unwrap_err();
    assert!(error.contains("0.bmp"), "{error}");
    std::fs::create_dir_all(folder.path().join("none")).unwrap();
    let empty = open(folder.path(), "name: i\nsource: { images: { path: none } }").unwrap_err();
    assert!(empty.contains("data set `i` is empty"), "{empty}");
}

/// A tone as a 16-bit WAV.
fn wav(hz: f32, rate: u32) -> Vec<u8> {
    let samples: Vec<i16> =
        (0..rate).map(|i| ((std::f32::consts::TAU * hz * i as f32 / rate as f32).sin() * 12000.0) as i16).collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + 2 * rate).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend([1, 0, 1, 0]);
    bytes.extend(rate.to_le_bytes());
    bytes.extend((2 * rate).to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend((2 * rate).to_le_bytes());
    samples.iter().for_each(|s| bytes.write_all(&s.to_le_bytes()).unwrap());
    bytes
}

#[test]
fn recordings_become_features() {
    let folder = tempfile::tempdir().unwrap();
    for (class, hz) in [("high", 2500.0), ("low", 300.0)] {
        let path = folder.path().join("w").join(class);
        std::fs::create_dir_all(&path).unwrap();
        for i in 0..5 {
            std::fs::write(path.join(format!("{i}.wav")), wav(hz + 10.0 * i as f32, 16_000)).unwrap();
        }
    }
    let data = open(folder.path(), "name: w\nsource: { wav: { path: w } }").unwrap();
    assert_eq!((data.shape(), data.train.len(), data.test.len()), (vec![1, 49, 10], 8, 2));
    let mel = open(folder.path(), "name: w\nsource: { wav: { path: w, front_end: { features: log-mel } } }").unwrap();
    assert_eq!(mel.shape(), [1, 49, 40]);
    // The loudest filter of a high tone lies above that of a low one.
    let (x, y) = all(&mel.train, Order::Stored);
    for (sample, label) in x.chunks(49 * 40).zip(y) {
        let frame = &sample[20 * 40..21 * 40];
        let loudest = (0..40).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).unwrap();
        assert_eq!(loudest > 20, label == 0, "filter {loudest} for class {label}");
    }
    let error = open(folder.path(), "name: w\nsource: { wav: { path: w, rate: 8000 } }").unwrap_err();
    assert!(error.contains("16000 samples a second, `rate: 8000` is asked for"), "{error}");
}
