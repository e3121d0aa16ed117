//! Why files of runtimes do not shrink with what pruning and clustering save.

use crate::record::RunRecord;

/// Why ONNX files of a pruned or clustered model are no smaller.
pub(crate) fn dense(record: &RunRecord) -> Option<&'static str> {
    let last = record.last()?;
    let shared = record.layers.iter().any(|l| l.stage_index == last.index && l.encoding.contains("centroids"));
    let zeros = (last.nonzero as f64) < 0.9 * last.parameters as f64;
    let onnx = record.artifacts.iter().any(|a| a.path.ends_with("model.onnx"));
    (onnx && (zeros || shared)).then_some(
        "ONNX and TFLite files are dense: a zero takes as many bytes there as any other number, and weights that share a value are stored one \
         by one. What pruning and clustering save is in the packed file, model.sinter.",
    )
}
