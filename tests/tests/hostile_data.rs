//! Data files as the world brings them: forms that must be read rightly, and what is damaged or hostile, which must be named.

use std::io::Write;
use std::path::Path;

use sinter_data::{DataConfig, Dataset, Order, Split};
use sinter_fixtures::{fixture, parse};
use sinter_model::{to_f32s, to_i64s};

fn open(folder: &Path, yaml: &str) -> Result<Dataset, String> {
    let mut config: DataConfig = parse(yaml);
    config.rebase(folder);
    Dataset::open(&config).map_err(|e| e.to_string())
}

fn stored(split: &Split) -> Result<(Vec<f32>, Vec<i64>), String> {
    let (mut x, mut y) = (vec![], vec![]);
    for batch in split.batches(5, Order::Stored) {
        let batch = batch.map_err(|e| e.to_string())?;
        x.extend(to_f32s(batch.x()).unwrap());
        y.extend(batch.y.map(|y| to_i64s(&y).unwrap()).unwrap_or_default());
    }
    Ok((x, y))
}

/// A .npy file of version 1.
fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}");
    header.extend(std::iter::repeat_n(' ', 63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

const NUMPY: &str = "name: n\nsource: { numpy: { path: x.npy } }\nsplit: { test: 0 }";
const LABELLED: &str = "name: n\nsource: { numpy: { path: x.npy, labels: y.npy } }\nsplit: { test: 0 }";

#[test]
fn numpy_arrays_of_every_layout_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let halves: Vec<u8> = [0x3c00u16, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600].iter().flat_map(|h| h.to_le_bytes()).collect();
    let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
    let shorts: Vec<u8> = [1i16, 2, 3, 4, 5, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
    // Of [[1, 2, 3], [4, 5, 6]] the first axis varies fastest.
    let turned = floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    for (name, descr, fortran, data) in [
        ("plain", "'<f4'", false, floats(&values)),
        ("float16", "'<f2'", false, halves),
        ("big-endian", "'>f4'", false, big),
        ("big-endian integers", "'>i2'", false, shorts),
        ("Fortran order", "'<f4'", true, turned),
        ("bytes", "'|u1'", false, vec![1, 2, 3, 4, 5, 6]),
    ] {
        std::fs::write(at.join("x.npy"), npy(descr, fortran, "(2, 3)", &data)).unwrap();
        let data = open(at, NUMPY).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((data.shape(), stored(&data.train).unwrap().0), (vec![3], values.to_vec()), "{name}");
    }
    // Three axes in Fortran order: element [i, j, k] lies at i + 2j + 4k.
    let cube: Vec<f32> = (0..12).map(|v| v as f32).collect();
    std::fs::write(at.join("x.npy"), npy("'<f4'", true, "(2, 2, 3)", &floats(&cube))).unwrap();
    let read = stored(&open(at, NUMPY).unwrap().train).unwrap().0;
    assert_eq!(read, [0.0, 4.0, 8.0, 2.0, 6.0, 10.0, 1.0, 5.0, 9.0, 3.0, 7.0, 11.0]);
}

#[test]
fn arrays_that_can_not_be_samples_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let six = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    for (name, bytes, wanted) in [
        ("nothing", vec![], "x.npy: "),
        ("another magic", b"GARBAGE and more of it".to_vec(), "x.npy: "),
        ("cut off in the header", npy("'<f4'", false, "(2, 3)", &six)[..20].to_vec(), "x.npy: "),
        ("cut off in the data", npy("'<f4'", false, "(2, 3)", &six[..20]), "cut off"),
        ("objects", npy("'|O'", false, "(2, 3)", b"\x80\x04."), "Python objects"),
        ("a structure", npy("[('a', '<f4')]", false, "(6,)", &six), "structured"),
        ("text", npy("'<U3'", false, "(2,)", &[0; 24]), "not supported"),
        ("complex numbers", npy("'<c8'", false, "(3,)", &six), "not supported"),
        ("no axis of samples", npy("'<f4'", false, "(6,)", &six), "need an axis"),
        ("samples of nothing", npy("'<f4'", false, "(6, 0)", &[]), "something in each"),
        ("no samples", npy("'<f4'", false, "(0, 6)", &[]), "no samples"),
        ("more than memory", npy("'<f4'", false, "(99999999999, 999)", &six), "--memory"),
        ("more than can be counted", npy("'<f4'", false, "(9999999999999, 9999999999999)", &six), "--memory"),
        ("beyond 63 bits", npy("'<f4'", false, "(18446744073709551615, 2)", &six), "not possible"),
        (
            "NaN",
            npy("'<f4'", false, "(3, 2)", &floats(&[1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0])),
            "sample 1, counted from 0, holds NaN",
        ),
        (
            "infinity",
            npy("'<f4'", false, "(3, 2)", &floats(&[1.0, 2.0, 3.0, f32::INFINITY, f32::NEG_INFINITY, 6.0])),
            "sample 1, counted from 0, holds an infinite value; 2 samples hold such values",
        ),
    ] {
        std::fs::write(at.join("x.npy"), bytes).unwrap();
        let said = open(at, NUMPY).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
    std::fs::write(at.join("x.npy"), npy("'<f4'", false, "(3, 2)", &six)).unwrap();
    for (name, values, wanted) in [
        ("NaN", floats(&[0.0, f32::NAN, 1.0]), "the label of sample 1 is NaN"),
        ("a fraction", floats(&[0.0, 1.0, 1.5]), "the label of sample 2 is 1.5"),
        ("a negative one", floats(&[-1.0, 1.0, 1.0]), "the label of sample 0 is -1"),
        ("far too many classes", floats(&[0.0, 1.0, 1e12]), "the label of sample 2 is 999999995904"),
    ] {
        std::fs::write(at.join("y.npy"), npy("'<f4'", false, "(3,)", &values)).unwrap();
        let said = open(at, LABELLED).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
    std::fs::write(at.join("y.npy"), npy("'<f4'", false, "(2,)", &floats(&[0.0, 1.0]))).unwrap();
    assert!(open(at, LABELLED).unwrap_err().contains("labels of shape [2] for 3 samples"));
}

const TABLE: &str = "name: c\nsource: { csv: { path: t.csv, label: label } }\nsplit: { test: 0 }";

#[test]
fn tables_of_every_habit_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let delimited = TABLE.replace("label: label", "label: label, delimiter: ';'");
    for (name, text, yaml) in [
        ("plain", "label,a,b\n0,1,2\n1,3,4\n", TABLE),
        ("a byte order mark", "\u{feff}label,a,b\n0,1,2\n1,3,4\n", TABLE),
        ("quotes and CRLF", "\u{feff}\"label\",\"a\",\"b\"\r\n\"0\",\"1\",\"2\"\r\n\"1\",\"3\",\"4\"\r\n", TABLE),
        ("spaces", "label, a, b\n0, 1, 2\n1, 3, 4\n", TABLE),
        ("no newline at the end", "label,a,b\n0,1,2\n1,3,4", TABLE),
        ("semicolons as said", "label;a;b\n0;1;2\n1;3;4\n", &delimited),
    ] {
        std::fs::write(at.join("t.csv"), text).unwrap();
        let data = open(at, yaml).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(stored(&data.train).unwrap(), (vec![1.0, 2.0, 3.0, 4.0], vec![0, 1]), "{name}");
    }
    for (name, text, wanted) in [
        ("semicolons", "label;a;b\n0;1;2\n", "its delimiter seems to be ';'"),
        ("tabs", "label\ta\tb\n0\t1\t2\n", "its delimiter seems to be '\\t'"),
        ("a missing value", "label,a,b\n0,,2\n", "line 2, column `a`: `` is not a finite number"),
        ("NaN", "label,a,b\n0,nan,2\n", "line 2, column `a`"),
        ("infinity", "label,a,b\n0,1,2\n1,inf,2\n", "line 3, column `a`"),
        ("beyond float32", "label,a,b\n0,1e99,2\n", "line 2, column `a`"),
        ("a decimal comma", "label,a,b\n0,\"1,5\",2\n", "write a point"),
        ("no label", "label,a,b\n,1,2\n", "line 2: the label is empty"),
        ("a row too short", "label,a,b\n0,1\n", "t.csv: "),
        ("no row", "label,a,b\n", "no samples"),
        ("nothing", "", "no column `label`"),
    ] {
        std::fs::write(at.join("t.csv"), text).unwrap();
        let said = open(at, TABLE).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
    std::fs::write(at.join("t.csv"), b"label,a,b\n0,\xff\xfe,2\n").unwrap();
    assert!(open(at, TABLE).unwrap_err().contains("t.csv: "));
    std::fs::write(at.join("t.csv"), "label,a,b\n0,1,2\n").unwrap();
    for shape in ["[-1, -2]", "[0]", "[9223372036854775807, 4]"] {
        let yaml = TABLE.replace("label: label", &format!("label: label, shape: {shape}"));
        assert!(open(at, &yaml).unwrap_err().contains("2 feature columns do not fill"), "{shape}");
    }
}

fn idx(dims: &[u32], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
    bytes.extend(body);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_idx_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let yaml = "name: i\nsource: { idx: { folder: ., train_images: x, train_labels: y, test_images: tx, test_labels: ty } }";
    let images = idx(&[2, 2, 2], &[1; 8]);
    let put = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).unwrap();
    put("x", &gzip(&images));
    put("y", &idx(&[2], &[0, 1]));
    put("tx", &images);
    // A class that training lacks.
    put("ty", &idx(&[2], &[0, 4]));
    assert_eq!(open(at, yaml).unwrap().classes.len(), 5);
    let gzipped = gzip(&images);
    for (name, bytes, wanted) in [
        ("nothing", vec![], "not an idx file"),
        ("another magic", b"\x00\x00\x0d\x03rest".to_vec(), "not an idx file"),
        ("a header cut off", images[..9].to_vec(), "the header is cut off"),
        ("data cut off", images[..20].to_vec(), "the header promises"),
        ("too large to count", idx(&[u32::MAX, u32::MAX, u32::MAX], &[1; 8]), "the header promises"),
        ("empty", idx(&[0, 2, 2], &[]), "it is empty"),
        ("a gzip stream cut off", gzipped[..gzipped.len() - 9].to_vec(), "the gzip stream is damaged"),
        ("another count", idx(&[3, 2, 2], &[1; 12]), "2 labels, but"),
    ] {
        put("x", &bytes);
        let said = open(at, yaml).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
}

/// A recording of frames of `channels`, each sample of so many bits.
fn wav(rate: u32, channels: u16, bits: u16, format: u16, data: &[u8]) -> Vec<u8> {
    let frame = channels as u32 * (bits as u32).div_ceil(8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate.wrapping_mul(frame)).to_le_bytes());
    bytes.extend((frame as u16).to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn recordings_of_every_kind_sound_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir_all(at.join("w/a")).unwrap();
    let yaml = "name: w\nsource: { wav: { path: w, front_end: { features: log-mel } } }\nsplit: { test: 0 }";
    let tone: Vec<f64> = (0..16_000).map(|i| (std::f64::consts::TAU * 440.0 * i as f64 / 16_000.0).sin() * 0.5).collect();
    let sixteen: Vec<u8> = tone.iter().flat_map(|v| ((v * 32767.0) as i16).to_le_bytes()).collect();
    let wide: Vec<u8> = tone.iter().flat_map(|v| ((v * 8_388_607.0) as i32).to_le_bytes()[..3].to_vec()).collect();
    let float: Vec<u8> = tone.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
    // The left channel twice as loud, the right one silent: their mean is the tone.
    let stereo: Vec<u8> = tone.iter().flat_map(|v| [((v * 2.0 * 32767.0) as i16).to_le_bytes(), [0, 0]].concat()).collect();
    let mut all = Vec::new();
    for bytes in [
        wav(16_000, 1, 16, 1, &sixteen),
        wav(16_000, 1, 24, 1, &wide),
        wav(16_000, 1, 32, 3, &float),
        wav(16_000, 2, 16, 1, &stereo),
    ] {
        std::fs::write(at.join("w/a/0.wav"), bytes).unwrap();
        all.push(stored(&open(at, yaml).unwrap().train).unwrap().0);
    }
    for other in &all[1..] {
        // Where the tone is heard at all: rounding to 16 bits makes its own noise elsewhere.
        let off = all[0].iter().zip(other).filter(|(a, _)| **a > 0.0).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off < 0.05, "{off}");
    }
    let nan: Vec<u8> = std::iter::repeat_n(f32::NAN.to_le_bytes(), 16_000).flatten().collect();
    for (name, bytes, wanted) in [
        ("another rate", wav(44_100, 1, 16, 1, &sixteen), "44100 samples a second"),
        ("no channel", wav(16_000, 0, 16, 1, &sixteen), "0.wav: "),
        ("no bits", wav(16_000, 1, 0, 1, &sixteen), "0.wav: "),
        ("compressed", wav(16_000, 1, 4, 17, &sixteen), "0.wav: "),
        ("no header", b"RIFF".to_vec(), "0.wav: "),
        ("nothing", vec![], "0.wav: "),
    ] {
        std::fs::write(at.join("w/a/0.wav"), bytes).unwrap();
        let said = open(at, yaml).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
    for (name, bytes, wanted) in
        [("NaN", wav(16_000, 1, 32, 3, &nan), "NaN"), ("cut off", wav(16_000, 1, 16, 1, &sixteen)[..20_000].to_vec(), "0.wav: ")]
    {
        std::fs::write(at.join("w/a/0.wav"), bytes).unwrap();
        let said = open(at, yaml).and_then(|d| stored(&d.train)).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains(wanted), "{name}: {said}");
    }
    std::fs::write(at.join("w/a/0.wav"), wav(16_000, 1, 16, 1, &sixteen)).unwrap();
    for numbers in ["seconds: .inf", "seconds: .nan", "seconds: -1", "seconds: 1e300", "rate: 0", "seconds: 0"] {
        let yaml = yaml.replace("path: w,", &format!("path: w, {numbers},"));
        assert!(open(at, &yaml).is_err(), "{numbers} was accepted");
    }
    for front in ["window_ms: .inf", "window_ms: .nan", "hop_ms: 0", "hop_ms: 1e-9", "mels: 0", "low_hz: .nan", "high_hz: .inf"] {
        let yaml = yaml.replace("features: log-mel", front);
        assert!(open(at, &yaml).is_err(), "{front} was accepted");
    }
}

/// Values that Pillow gives for the same files (its `exif_transpose` for the turned one, sixteen bits divided by 257 for the deep one).
#[test]
fn images_of_every_kind_are_what_pillow_says() {
    let wanted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("formats/images/expected.json")).unwrap()).unwrap();
    for (file, wanted) in wanted.as_object().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("p/a")).unwrap();
        std::fs::copy(fixture("formats/images").join(file), folder.path().join("p/a").join(file)).unwrap();
        let data = open(folder.path(), "name: i\nsource: { images: { path: p } }\nnormalize: { divide: 1 }\nsplit: { test: 0 }")
            .unwrap();
        let numbers = |v: &serde_json::Value| v.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>();
        let shape = numbers(&wanted["shape"]);
        let (height, width) = (shape[0] as usize, shape[1] as usize);
        assert_eq!(data.shape(), [3, height as i64, width as i64], "{file}");
        let (read, _) = stored(&data.train).unwrap();
        // Planes against pixels; decoders of JPEG differ by a little.
        let most = if file.ends_with("jpg") { 3.0 } else { 0.0 };
        for (i, value) in numbers(&wanted["values"]).iter().enumerate() {
            let ours = f64::from(read[i % 3 * height * width + i / 3]);
            assert!((ours - value).abs() <= most, "{file}: value {i} is {ours}, Pillow says {value}");
        }
    }
}

#[test]
fn images_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir_all(at.join("p/a")).unwrap();
    std::fs::copy(fixture("formats/images/palette.png"), at.join("p/a/0.png")).unwrap();
    let yaml = "name: i\nsource: { images: { path: p } }\nsplit: { test: 0 }";
    let whole = std::fs::read(fixture("formats/images/palette.png")).unwrap();
    let mut huge = whole.clone();
    // Width and height of the header; the checksum is wrong then, too.
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    for (name, bytes) in
        [("nothing", vec![]), ("text", b"no image".to_vec()), ("a header cut off", whole[..20].to_vec()), ("huge", huge)]
    {
        std::fs::write(at.join("p/a/1.png"), bytes).unwrap();
        let said = open(at, yaml).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(said.contains("1.png: "), "{name}: {said}");
    }
    std::fs::write(at.join("p/a/1.png"), &whole[..whole.len() - 30]).unwrap();
    let said = open(at, yaml).and_then(|d| stored(&d.train)).err().unwrap();
    assert!(said.contains("1.png: "), "{said}");
    std::fs::copy(fixture("formats/images/grey.jpg"), at.join("p/a/1.png")).unwrap();
    let said = open(at, yaml).err().unwrap();
    assert!(said.contains("16x24 pixels, the others have 3x5: give `size"), "{said}");
    for size in ["[0, 4]", "[4294967295, 4294967295]"] {
        let said = open(at, &yaml.replace("path: p", &format!("path: p, size: {size}"))).err().unwrap();
        assert!(said.contains("size") || said.contains("hold nothing"), "{size}: {said}");
    }
}
