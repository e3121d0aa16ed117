//! From TFLite bytes to a model.

use std::path::Path;

use sinter_model::{Bytes, Model, guarded, memory_limit};

use crate::error::TfliteError;
use crate::operators;
use crate::reader::Reader;

/// Reads a file. Values keep TensorFlow's order of axes, channels last; convolutions and pools stand between transpositions, their weights in ONNX's
/// order. The batch is free where inputs are of one sample. Errors on graphs with state or control flow, and on operators that are not read.
pub fn load(path: &Path) -> Result<Model, TfliteError> {
    let read = |source| TfliteError::Read { path: path.to_path_buf(), source };
    let (bytes, limit) = (Bytes(std::fs::metadata(path).map_err(read)?.len()), memory_limit());
    if bytes.0 > limit.0 {
        return Err(TfliteError::Large { bytes, limit });
    }
    let mut model = import(&std::fs::read(path).map_err(read)?)?;
    model.name = path.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned());
    Ok(model)
}

/// The same from bytes.
pub fn import(bytes: &[u8]) -> Result<Model, TfliteError> {
    guarded(|| model(Reader::new(bytes)?)).unwrap_or_else(|said| Err(TfliteError::Decode(said)))
}

fn model(mut reader: Reader) -> Result<Model, TfliteError> {
    let list = |values: Option<flatbuffers::Vector<i32>>| values.into_iter().flatten().collect::<Vec<i32>>();
    let (inputs, outputs) = (list(reader.graph.inputs()), list(reader.graph.outputs()));
    for &input in &inputs {
        let at = reader.index(input)?;
        let value = reader.end(at)?;
        reader.model.graph.inputs.push(value);
        reader.given.insert(at);
    }
    for (index, operator) in reader.graph.operators().into_iter().flatten().enumerate() {
        let (code, custom) = reader.codes.get(operator.code().unwrap_or(0) as usize).copied().unwrap_or((-1, None));
        let told = |reason| {
            let kind = custom.map_or_else(|| operators::name(code), |c| format!("custom operator `{c}`"));
            TfliteError::Operator { index, kind, reason }
        };
        operators::read(&mut reader, code, &operator).map_err(|e| told(e.to_string()))?;
    }
    for &output in &outputs {
        let at = reader.index(output)?;
        let value = reader.end(at)?;
        if !reader.given.contains(&at) {
            return Err(TfliteError::Tensor { name: value.name, reason: "nothing gives this output".into() });
        }
        reader.model.graph.outputs.push(value);
    }
    reader.model.drop_unused();
    Ok(reader.model)
}
