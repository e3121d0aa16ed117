//! Folders as the compressed-tensors library has them (`pack-quantized`), which transformers and vLLM open.
//!
//! Each quantized layer has its integers in `weight_packed`, a stream of bits a row in words of 32, its scales in `weight_scale`, and zero points, where
//! there are any, in `weight_zero_point`, packed down the rows.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use sinter_model::{Granularity, Levels, Model, QuantParams, Role, write_whole};

use crate::config::Config;
use crate::error::HubError;
use crate::shards::WHOLE;
use crate::stored::{FloatType, Stored, complete, quantized, same};

const FORMAT: &str = "compressed-tensors";
/// Elements of a row that share words, without a bit between them.
const WORD: usize = 32;

/// Why a model that came from `source` can't be written so: a layer that has no such format, a tensor that config.json does not tell of.
pub fn fits(model: &Model, source: &Path) -> Result<(), HubError> {
    complete(model, &Config::read(&source.join("config.json"), 1)?)?;
    let tables: Vec<String> = model.tables().into_iter().map(|t| t.weight).collect();
    for (layer, params) in quantized(model)? {
        let shape = model.weights.get(&layer.weight).map(|w| w.size()).unwrap_or_default();
        let refuse = |help: String| {
            Err(HubError::Encoding { layer: layer.name.clone(), encoding: params.describe(), format: FORMAT, help })
        };
        let looked_up = model.graph.nodes.iter().any(|n| n.op.table().and_then(|i| n.inputs.get(i)) == Some(&layer.weight));
        if tables.contains(&layer.weight) {
            return refuse("embeddings stay float there: write `embeddings: none`".into());
        }
        if looked_up {
            return refuse(format!(
                "it is tied to the embeddings, which stay float there: write `layers: [{{ match: {}, weights: none }}]`",
                layer.name
            ));
        }
        if params.levels() == Levels::Unsigned && params.granularity() == Granularity::Tensor {
            return refuse("it has no zero points for a whole tensor: write `channel` or `group:64` behind the format".into());
        }
        if params.bits() == 1 {
            return refuse("write weights of 2 to 8 bits".into());
        }
        if let Granularity::Group { size, .. } = params.granularity()
            && shape.get(1).is_some_and(|n| n % size as i64 != 0)
        {
            let fitting: Vec<String> =
                [128, 64, 32].iter().filter(|g| shape[1] % **g == 0).map(|g| format!("`group:{g}`")).collect();
            return refuse(format!(
                "its {} columns are no whole number of groups; {} or `channel` fit",
                shape[1],
                fitting.join(", ")
            ));
        }
    }
    Ok(())
}

/// One tensor of a file.
struct Entry {
    kind: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes the folder `out`: weights, configuration, and what lies beside the weights in `source`. The weights are read back and compared, value by value.
pub fn write(model: &Model, source: &Path, out: &Path) -> Result<(), HubError> {
    fits(model, source)?;
    let mut stored = BTreeMap::new();
    for (name, weight) in model.weights.iter().filter(|(_, w)| w.role == Role::Parameter) {
        stored.insert(name.clone(), (Stored::of(name, weight)?, weight.size()));
    }
    // One type for all floats, as readers have it: the shortest in which each is exact.
    let float = FloatType::holding(stored.values().map(|(stored, _)| match stored {
        Stored::Integers { params, .. } => params.scales(),
        Stored::Floats(values) => &values[..],
    }));
    let (kind, name) = match float {
        FloatType::Bf16 => (Dtype::BF16, "bfloat16"),
        FloatType::F16 => (Dtype::F16, "float16"),
        FloatType::F32 => (Dtype::F32, "float32"),
    };
    let mut entries = BTreeMap::new();
    for (tensor, (stored, size)) in &stored {
        let shape: Vec<usize> = size.iter().map(|&n| n as usize).collect();
        match stored {
            Stored::Floats(values) => drop(entries.insert(tensor.clone(), Entry { kind, shape, bytes: float.bytes(values) })),
            Stored::Integers { integers, params } => {
                let base = tensor.strip_suffix(".weight").unwrap_or(tensor);
                for (part, entry) in parts(integers, params, &shape, (kind, float)) {
                    entries.insert(format!("{base}.{part}"), entry);
                }
            }
        }
    }
    let views = entries.iter().map(|(name, e)| {
        let view = TensorView::new(e.kind, e.shape.clone(), &e.bytes).map_err(|e| HubError::tensor(name, e))?;
        Ok((name.clone(), view))
    });
    let views = views.collect::<Result<Vec<_>, HubError>>()?;
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    let path = out.join(WHOLE);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| HubError::format(&path, e))?;
    write_whole(&path, &bytes)?;
    write_whole(&out.join("config.json"), config(model, source, name)?.as_bytes())?;
    crate::beside::copy(source, out)?;
    read_back(model, &path)
}

/// The tensors of one quantized layer, by the end of their names.
fn parts(
    integers: &[i64],
    params: &QuantParams,
    shape: &[usize],
    (kind, float): (Dtype, FloatType),
) -> Vec<(&'static str, Entry)> {
    let (rows, columns) = (shape[0], shape[1]);
    let bits = params.bits() as usize;
    let lift = lift(params);
    let packed: Vec<u8> = integers.chunks(columns).flat_map(|row| pack(row.iter().map(|q| q + lift), columns, bits)).collect();
    let scales = params.scales();
    let groups = scales.len() / if params.granularity() == Granularity::Tensor { 1 } else { rows };
    let scale_shape = if params.granularity() == Granularity::Tensor { vec![1] } else { vec![rows, groups] };
    let lengths: Vec<u8> = shape.iter().flat_map(|&n| (n as i64).to_le_bytes()).collect();
    let mut parts = vec![
        ("weight_packed", Entry { kind: Dtype::I32, shape: vec![rows, words(columns, bits)], bytes: packed }),
        ("weight_scale", Entry { kind, shape: scale_shape, bytes: float.bytes(scales) }),
        ("weight_shape", Entry { kind: Dtype::I64, shape: vec![2], bytes: lengths }),
    ];
    if params.levels() == Levels::Unsigned {
        // Down the rows: a column's zero points share words.
        let zeros = params.zero_points();
        let columns =
            (0..groups).map(|g| pack((0..zeros.len() / groups).map(|r| zeros[r * groups + g]), zeros.len() / groups, bits));
        let columns: Vec<Vec<u8>> = columns.collect();
        let height = words(zeros.len() / groups, bits);
        let bytes = (0..height).flat_map(|w| columns.iter().flat_map(move |c| c[w * 4..w * 4 + 4].to_vec())).collect();
        parts.push(("weight_zero_point", Entry { kind: Dtype::I32, shape: vec![height, groups], bytes }));
    }
    parts
}

/// What makes an integer one without a sign; the library takes half of the range off again.
fn lift(params: &QuantParams) -> i64 {
    if params.levels() == Levels::Unsigned { 0 } else { 1 << (params.bits() - 1) }
}

/// The words that so many elements of so many bits take.
fn words(elements: usize, bits: usize) -> usize {
    (elements * bits).div_ceil(WORD)
}

/// A stream of bits, the lowest first, in whole words.
fn pack(values: impl Iterator<Item = i64>, elements: usize, bits: usize) -> Vec<u8> {
    let mut out = vec![0u8; words(elements, bits) * 4];
    for (at, value) in values.enumerate() {
        for bit in (0..bits).filter(|bit| value >> bit & 1 == 1) {
            out[(at * bits + bit) / 8] |= 1 << ((at * bits + bit) % 8);
        }
    }
    out
}

/// The integers of such a stream.
fn unpack(bytes: &[u8], elements: usize, bits: usize) -> Vec<i64> {
    let bit = |at: usize| i64::from(bytes[at / 8] >> (at % 8) & 1);
    (0..elements).map(|at| (0..bits).fold(0, |value, b| value | bit(at * bits + b) << b)).collect()
}

/// config.json of the source, with what says how the weights are stored.
fn config(model: &Model, source: &Path, dtype: &str) -> Result<String, HubError> {
    let path = source.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(HubError::read(&path))?;
    let mut config: Value = serde_json::from_str(&text).map_err(|e| HubError::format(&path, e))?;
    // Layers of one format together.
    let mut groups: BTreeMap<String, (Value, Vec<String>)> = BTreeMap::new();
    let layers = model.layers();
    for (layer, params) in quantized(model)? {
        let arguments = arguments(&params);
        groups.entry(arguments.to_string()).or_insert((arguments, vec![])).1.push(layer.name);
    }
    let compressed: Vec<&String> = groups.values().flat_map(|(_, names)| names).collect();
    let ignored: Vec<&String> = layers.iter().map(|l| &l.name).filter(|name| !compressed.contains(name)).collect();
    let one = groups.len() == 1;
    let described: BTreeMap<String, Value> = groups
        .values()
        .enumerate()
        .map(|(at, (arguments, names))| {
            let targets = if one { json!(["Linear"]) } else { json!(names) };
            let group = json!({ "targets": targets, "weights": arguments, "input_activations": null, "output_activations": null, "format": "pack-quantized" });
            (format!("group_{at}"), group)
        })
        .collect();
    if let Some(object) = config.as_object_mut() {
        object.remove("torch_dtype");
        object.insert("dtype".into(), json!(dtype));
        if !groups.is_empty() {
            let quantization = json!({
                "quant_method": FORMAT,
                "format": "pack-quantized",
                "quantization_status": "compressed",
                "config_groups": described,
                "ignore": ignored,
                "kv_cache_scheme": null,
            });
            object.insert("quantization_config".into(), quantization);
        }
    }
    serde_json::to_string_pretty(&config).map_err(|e| HubError::format(&path, e))
}

/// How the library is told of a quantizer.
fn arguments(params: &QuantParams) -> Value {
    let (strategy, group) = match params.granularity() {
        Granularity::Tensor => ("tensor", Value::Null),
        Granularity::Channel(_) => ("channel", Value::Null),
        Granularity::Group { size, .. } => ("group", json!(size)),
    };
    json!({
        "num_bits": params.bits(),
        "type": "int",
        "symmetric": params.levels() != Levels::Unsigned,
        "strategy": strategy,
        "group_size": group,
        "dynamic": false,
        "observer": "minmax",
    })
}

/// Reads a file as the library does, and compares it with the model.
fn read_back(model: &Model, path: &Path) -> Result<(), HubError> {
    let bytes = std::fs::read(path).map_err(HubError::read(path))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(|e| HubError::format(path, e))?;
    let get = |name: &str| tensors.tensor(name).map_err(|e| HubError::tensor(name, e));
    let floats = |view: &TensorView| match view.dtype() {
        Dtype::BF16 => FloatType::Bf16.values(view.data()),
        Dtype::F16 => FloatType::F16.values(view.data()),
        _ => FloatType::F32.values(view.data()),
    };
    for (name, weight) in model.weights.iter().filter(|(_, w)| w.role == Role::Parameter) {
        let Some(quantizer) = weight.quantizer() else {
            same(name, &floats(&get(name)?), weight)?;
            continue;
        };
        let (params, size) = (quantizer.params()?, weight.size());
        let base = name.strip_suffix(".weight").unwrap_or(name);
        let packed = get(&format!("{base}.weight_packed"))?;
        let scales = floats(&get(&format!("{base}.weight_scale"))?);
        let (rows, columns, bits) = (size[0] as usize, size[1] as usize, params.bits() as usize);
        let groups = scales.len().div_ceil(rows);
        let zeros = match params.levels() {
            Levels::Unsigned => Some(get(&format!("{base}.weight_zero_point"))?),
            _ => None,
        };
        let zero = |row: usize, group: usize| match &zeros {
            None => lift(&params),
            Some(view) => {
                let bit = |b: usize| {
                    let at = row * bits + b;
                    let byte = (at / WORD * groups + group) * 4 + at % WORD / 8;
                    i64::from(view.data()[byte] >> (at % 8) & 1) << b
                };
                (0..bits).map(bit).sum()
            }
        };
        let mut read = Vec::with_capacity(rows * columns);
        for (row, bytes) in packed.data().chunks(words(columns, bits) * 4).enumerate() {
            let group_size = columns.div_ceil(groups);
            let each = unpack(bytes, columns, bits).into_iter().enumerate().map(|(column, q)| {
                let group = column / group_size;
                let scale = if scales.len() == 1 { scales[0] } else { scales[row * groups + group] };
                (q - zero(if scales.len() == 1 { 0 } else { row }, group)) as f32 * scale
            });
            read.extend(each);
        }
        same(name, &read, weight)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `compressed_tensors.compressors.pack_quantized.helpers.pack_to_int32` 0.20 of these integers, in 4 and in 3 bits.
    #[test]
    fn bits_lie_as_the_library_packs_them() {
        let values = [-8i64, -7, -1, 0, 1, 2, 3, 7, -2];
        let words = |bits: usize, lift: i64| -> Vec<i32> {
            let bytes = pack(values.iter().map(|v| v.clamp(&-lift, &(lift - 1)) + lift), values.len(), bits);
            bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()
        };
        assert_eq!(words(4, 8), [-72_775_920, 6]);
        assert_eq!(words(3, 4), [50_288_832]);
        assert_eq!(unpack(&pack([5, 0, 7, 2].into_iter(), 4, 3), 4, 3), [5, 0, 7, 2]);
    }
}
