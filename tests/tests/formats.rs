//! Files of older versions go on being read: each lies in `fixtures/formats` as the version wrote it.

use sinter_exec::Runner;
use sinter_export::{OnnxRuntime, explicit, unpack};
use sinter_fixtures::{fixture, normal, sinter, write_bars};
use sinter_model::Mode;
use sinter_report::{RunRecord, write_report};
use sinter_task::{Better, Metric};
use tch::Kind;

/// A packed file of format 2, and the ONNX file of the same model: masks, codebooks and quantizers answer as ONNX Runtime does.
#[test]
fn packed_files_are_read() {
    let bytes = std::fs::read(fixture("formats/packed-2.sinter")).unwrap();
    let model = unpack(&bytes).unwrap();
    model.check().unwrap();
    let encodings: Vec<String> = model.layers().iter().map(|l| model.weights[&l.weight].describe().unwrap()).collect();
    assert!(
        encodings[0].contains("2:4") && encodings.iter().all(|e| e.contains("codebook") && e.contains("int8")),
        "{encodings:?}"
    );
    let x = normal(1, &[64, 1, 12, 12]);
    let old = OnnxRuntime::open(&fixture("formats/packed-2.onnx")).unwrap().run(std::slice::from_ref(&x)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    explicit(&model).unwrap().save(&folder.path().join("again.onnx")).unwrap();
    // Of that version the file left its output unquantized where the model has a quantizer there.
    let old = match model.activations.get(&model.graph.outputs[0].name) {
        Some(quantizer) => quantizer.apply(&old).unwrap(),
        None => old,
    };
    assert_eq!(OnnxRuntime::open(&folder.path().join("again.onnx")).unwrap().run(std::slice::from_ref(&x)).unwrap(), old);
    let ours = tch::no_grad(|| Runner::new(&model).unwrap().run(&[x.shallow_clone()], Mode::Predict)).unwrap().swap_remove(0);
    // Kernels of some processors saturate sums of two products; on the whole the simulation answers as they do.
    let off = (&ours - &old).abs().mean(Kind::Float).double_value(&[]);
    assert!(off < 0.02 * old.abs().max().double_value(&[]), "{off}");
}

/// A record of before metrics were typed; its report is drawn again.
#[test]
fn records_of_runs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("formats/run-1.json"), folder.path().join("run.json")).unwrap();
    let record = RunRecord::read(folder.path()).unwrap();
    assert_eq!(record.metric, Metric::share("accuracy"));
    assert_eq!((record.stages.len(), record.last().unwrap().packed_bytes, record.metric.better), (8, 4163, Better::Higher));
    write_report(&record, folder.path()).unwrap();
    let page = std::fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains(&record.summary) && page.contains("69.00 %"));
}

/// A pipeline with keys of every stage.
#[test]
fn pipelines_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write_bars(folder.path(), 400, 100);
    let target = sinter_fixtures::root().join("configs/targets/cortex-m4.yaml");
    let text = std::fs::read_to_string(fixture("formats/pipeline-1.yaml")).unwrap();
    let text = text.replace("../../../configs/targets/cortex-m4.yaml", &target.display().to_string());
    std::fs::write(folder.path().join("old.yaml"), text).unwrap();
    let output = sinter(folder.path(), &["plan", "old.yaml", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["stages"].as_array().unwrap().len(), 7);
    let quantize = &plan["stages"][6]["settings"]["config"];
    assert_eq!((&quantize["calibrate"], &quantize["scales"]), (&"percentile".into(), &"learned".into()));
}
