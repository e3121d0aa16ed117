//! Tasks beside classification: each from data to file, trained, compressed and measured; the user's own metric; and what does not fit.

use std::path::Path;

use sinter_fixtures::protos::{file, floats, int, ints, node, numbers, typed};
use sinter_fixtures::{only_run, sinter, uniform, write_arrays};
use sinter_onnx::proto::{GraphProto, NodeProto, TensorProto};
use sinter_report::RunRecord;
use tch::{Kind, Tensor};

const STAGES: &str = "  - train: { epochs: 25, lr: 1e-2, batch_size: 32 }\n  - prune: { unstructured: { sparsity: 20% } }\n  \
                      - distill: { epochs: 1 }\n  - quantize: {}\n";

fn write(folder: &Path, graph: GraphProto, arrays: &[(&str, &Tensor)], data: &str, rest: &str) {
    std::fs::write(folder.join("m.onnx"), file(graph)).unwrap();
    write_arrays(&folder.join("d.npz"), arrays);
    let source = if data.contains("source") { "" } else { "source: { numpy: { path: d.npz } }\n" };
    std::fs::write(folder.join("data.yaml"), format!("name: d\n{source}{data}")).unwrap();
    let text = format!("name: t\nmodel: {{ onnx: m.onnx }}\ndata: data.yaml\n{rest}");
    std::fs::write(folder.join("t.yaml"), text).unwrap();
}

fn run(folder: &Path) -> RunRecord {
    let done = sinter(folder, &["run", "t.yaml"]);
    assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    RunRecord::read(&only_run(folder, "t")).unwrap()
}

/// The leading metric came out of ONNX Runtime, as the simulation has it, with an interval around it and a paired change.
fn holds(record: &RunRecord, name: &str, good: impl Fn(f64) -> bool) {
    let leading = &record.quality[0];
    assert_eq!((leading.metric.name.as_ref(), leading.runtime.as_str()), (name, "ONNX Runtime"));
    let float = leading.float.unwrap().value;
    assert!(good(float), "float: {leading:?}");
    assert!(good(leading.result.value), "result: {leading:?}");
    let measured = record.exported().unwrap();
    assert!((measured.value.unwrap() - measured.simulated).abs() < 0.02 * measured.simulated.abs().max(1.0), "{measured:?}");
    let (low, high) = leading.result.interval.unwrap();
    assert!(low <= leading.result.value && leading.result.value <= high && low < high, "{leading:?}");
    let lost = leading.lost.unwrap();
    let now = leading.metric.gain(leading.result.value, float);
    assert!(lost.low <= now && now <= lost.high && (0.0..=1.0).contains(&lost.p), "{leading:?}");
}

fn conv(input: &str, weight: &str, output: &str) -> NodeProto {
    node("Conv", &[input, weight], output, vec![ints("pads", &[1, 1, 1, 1])])
}

fn graph(input: &[&str], output: &[&str], nodes: Vec<NodeProto>, stored: Vec<TensorProto>) -> GraphProto {
    let (input, output) = (vec![typed("x", 1, input)], vec![typed("y", 1, output)]);
    GraphProto { node: nodes, initializer: stored, input, output, ..GraphProto::default() }
}

/// Pixels brighter than their neighbours' mean are of one class, the border of another.
#[test]
fn pixels_get_classes() {
    let folder = tempfile::tempdir().unwrap();
    let x = uniform(1, &[200, 1, 8, 8]);
    let smooth = x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None);
    let labels = x.gt_tensor(&smooth).to_kind(Kind::Int64).squeeze_dim(1);
    // The first row counts for nothing.
    let _ = labels.narrow(1, 0, 1).fill_(255);
    let nodes = vec![
        conv("x", "w", "a"),
        node("Relu", &["a"], "r", vec![]),
        conv("r", "v", "b"),
        node("Softmax", &["b"], "y", vec![int("axis", 1)]),
    ];
    let stored = vec![floats("w", &[8, 1, 3, 3], &numbers(72, 0.4)), floats("v", &[2, 8, 3, 3], &numbers(144, 0.2))];
    let model = graph(&["n", "1", "8", "8"], &["n", "2", "8", "8"], nodes, stored);
    let rest = format!("metric: iou\nmetrics: [accuracy, dice, {{ f1: {{ average: micro }} }}, kl]\nstages:\n{STAGES}");
    write(folder.path(), model, &[("x", &x), ("y", &labels)], "task: { segment: { ignore: 255 } }\n", &rest);
    let record = run(folder.path());
    holds(&record, "IoU", |v| v > 0.6);
    let names: Vec<&str> = record.quality.iter().map(|q| q.metric.name.as_ref()).collect();
    assert_eq!(names, ["IoU", "accuracy", "Dice", "F1", "KL"]);
    // With one label a position the micro average is accuracy; the ignored row is in neither.
    assert!((record.quality[1].result.value - record.quality[3].result.value).abs() < 1e-9);
    // A distance from the float model says nothing of that itself.
    assert!(record.quality[4].float.is_none() && record.quality[4].lost.is_none() && record.quality[4].result.value > 0.0);
    let page = std::fs::read_to_string(only_run(folder.path(), "t").join("report.html")).unwrap();
    assert!(page.contains("Quality, with intervals"));
    assert!(only_run(folder.path(), "t").join("quality.csv").is_file());
}

/// Three marks, each of which holds where a linear score is positive.
#[test]
fn labels_hold_by_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let x = uniform(2, &[300, 6]) - 0.5;
    let labels = x.matmul(&Tensor::from_slice(&numbers(18, 1.0)).reshape([6, 3])).gt(0.0).to_kind(Kind::Float);
    let nodes = vec![node("MatMul", &["x", "w"], "a", vec![]), node("Sigmoid", &["a"], "y", vec![])];
    let model = graph(&["n", "6"], &["n", "3"], nodes, vec![floats("w", &[6, 3], &numbers(18, -0.3))]);
    let rest = format!("metrics: [accuracy, f1, average-precision, eer]\nstages:\n{STAGES}");
    write(folder.path(), model, &[("x", &x), ("y", &labels)], "task: multi-label\n", &rest);
    let record = run(folder.path());
    holds(&record, "AUC", |v| v > 0.9);
    assert!(record.quality[1].result.value > 0.85 && record.quality[4].result.value < 0.15, "{:?}", record.quality);
}

/// A table of which one column is to be predicted.
#[test]
fn numbers_are_predicted_from_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut table = String::from("area,price,age\n");
    for _ in 0..300 {
        let (area, age) = (random.f32(), random.f32());
        table += &format!("{area},{},{age}\n", 3.0 * area - age + 0.05 * random.f32());
    }
    std::fs::write(folder.path().join("t.csv"), table).unwrap();
    let nodes = vec![
        node("MatMul", &["x", "w"], "a", vec![]),
        node("Relu", &["a"], "r", vec![]),
        node("MatMul", &["r", "v"], "y", vec![]),
    ];
    let stored = vec![floats("w", &[2, 8], &numbers(16, 0.8)), floats("v", &[8, 1], &numbers(8, 0.8))];
    let model = graph(&["n", "2"], &["n", "1"], nodes, stored);
    let rest = format!("metrics: [mae, r2, pearson, spearman]\nstages:\n{STAGES}");
    let data = "source: { csv: { path: t.csv, label: price } }\ntask: regress\n";
    write(folder.path(), model, &[], data, &rest);
    let record = run(folder.path());
    holds(&record, "RMSE", |v| v < 0.25);
    assert!(record.quality[2].result.value > 0.95 && record.quality[4].result.value > 0.95, "{:?}", record.quality);
}

/// A column that is named twice, here or there, would shift samples against labels.
#[test]
fn columns_are_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = vec![node("MatMul", &["x", "w"], "y", vec![])];
    let model = graph(&["n", "2"], &["n", "1"], nodes, vec![floats("w", &[2, 1], &numbers(2, 1.0))]);
    let rows = "1,2,3\n".repeat(40);
    let cases = [
        ("a,b,y", "labels: [y, y]", "regress", "column `y` is named twice"),
        ("a,a,y", "label: y", "regress", "column `a` is named twice"),
        ("a,b,y", "label: y, labels: [y]", "regress", "`label` and `labels` are both given"),
        ("a,b,y", "labels: [y, z]", "regress", "no column `z`; it has a, b, y"),
        ("a,b,y", "labels: [y]", "classify", "`task: classify` takes one `label`, not several"),
    ];
    for (header, labels, task, wanted) in cases {
        std::fs::write(folder.path().join("t.csv"), format!("{header}\n{rows}")).unwrap();
        let data = format!("source: {{ csv: {{ path: t.csv, {labels} }} }}\ntask: {task}\n");
        write(folder.path(), model.clone(), &[], &data, "stages:\n  - quantize: {}\n");
        let done = sinter(folder.path(), &["check", "t.yaml"]);
        let said = String::from_utf8_lossy(&done.stderr).replace("\n  │ ", " ");
        assert!(done.status.code() == Some(2) && said.contains(wanted), "{labels}: {said}");
    }
}

/// Steps that each show a character, or nothing.
#[test]
fn characters_are_read_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let word: Vec<i64> = (0..random.usize(1..4)).map(|_| random.i64(1..4)).collect();
        let mut shown: Vec<i64> = word.iter().flat_map(|c| [*c, 0]).collect();
        shown.resize(8, 0);
        x.extend(
            shown
                .iter()
                .flat_map(|c| (0..4).map(move |k| f32::from(u8::from(k == *c))).collect::<Vec<_>>())
                .map(|v| v + 0.3 * random.f32()),
        );
        labels.extend(word.iter().copied().chain(std::iter::repeat(-1)).take(3));
    }
    let (x, labels) = (Tensor::from_slice(&x).reshape([300, 8, 4]), Tensor::from_slice(&labels).reshape([300, 3]));
    let nodes = vec![node("MatMul", &["x", "w"], "y", vec![])];
    let model = graph(&["n", "8", "4"], &["n", "8", "4"], nodes, vec![floats("w", &[4, 4], &numbers(16, 0.5))]);
    let rest = format!("metrics: [word-accuracy]\nstages:\n{}", STAGES.replace("epochs: 25, lr: 1e-2", "epochs: 120, lr: 3e-2"));
    write(folder.path(), model, &[("x", &x), ("y", &labels)], "task: transcribe\n", &rest);
    let record = run(folder.path());
    holds(&record, "CER", |v| v < 0.05);
    assert!(record.quality[1].result.value > 0.9, "{:?}", record.quality);
}

/// Vectors of like samples lie near one another; only a teacher teaches.
#[test]
fn vectors_find_their_like() {
    let folder = tempfile::tempdir().unwrap();
    let labels = Tensor::from_slice(&(0..240).map(|i| i % 6).collect::<Vec<i64>>());
    let x = labels.one_hot(6).to_kind(Kind::Float) + uniform(5, &[240, 6]) * 0.6;
    let nodes = vec![node("MatMul", &["x", "w"], "y", vec![])];
    let model = || graph(&["n", "6"], &["n", "8"], nodes.clone(), vec![floats("w", &[6, 8], &numbers(48, 1.0))]);
    let stages = "metrics: [{ recall-at: { k: 5 } }, cosine, snr, max-error]\nstages:\n  - prune: { unstructured: { sparsity: 20% }, finetune: { epochs: 2, distill: {} } }\n  - quantize: {}\n";
    write(folder.path(), model(), &[("x", &x), ("y", &labels)], "task: embed\n", stages);
    let record = run(folder.path());
    holds(&record, "recall@1", |v| v > 0.8);
    assert!(record.quality[1].result.value >= record.quality[0].result.value, "{:?}", record.quality);
    assert!(record.quality[4].lost.is_none() && record.quality[4].result.interval.is_none(), "the worst of all has no interval");
    let rest = format!("stages:\n{STAGES}");
    write(folder.path(), model(), &[("x", &x), ("y", &labels)], "task: embed\n", &rest);
    let said = sinter(folder.path(), &["check", "t.yaml"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("needs a teacher"), "{}", String::from_utf8_lossy(&said.stderr));
}

/// Four numbers to three scores.
fn three_scores() -> GraphProto {
    let weight = floats("w", &[4, 3], &numbers(12, 1.0));
    graph(&["n", "4"], &["n", "3"], vec![node("MatMul", &["x", "w"], "y", vec![])], vec![weight])
}

/// A command gets every answer and says how good they are.
#[test]
fn a_metric_of_ones_own_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (x, labels) = (uniform(6, &[50, 4]), Tensor::from_slice(&(0..50).map(|i| i % 3).collect::<Vec<i64>>()));
    let pipeline =
        |command: &str| format!("metric: accuracy\nmetrics: [{{ command: {command} }}]\nstages:\n  - quantize: {{}}\n");
    std::fs::write(
        folder.path().join("own.sh"),
        "echo thinking >&2\ncp \"$1\" seen.npz\necho noise\necho '{\"value\": 0.25, \"low\": 0.2, \"high\": 0.3}'\n",
    )
    .unwrap();
    let arrays = [("x", &x), ("y", &labels)];
    write(folder.path(), three_scores(), &arrays, "", &pipeline("{ run: [sh, own.sh], name: hits, unit: percent }"));
    let record = run(folder.path());
    let own = &record.quality[1];
    assert_eq!((own.metric.name.as_ref(), own.result.value, own.result.interval), ("hits", 0.25, Some((0.2, 0.3))));
    let mut seen = npyz::npz::NpzArchive::open(folder.path().join("seen.npz")).unwrap();
    let mut names: Vec<String> = seen.array_names().map(String::from).collect();
    names.sort();
    assert_eq!(names, ["labels", "output_0", "reference_0"]);
    // A fifth of fifty samples was set aside to test.
    assert_eq!(seen.by_name("output_0").unwrap().unwrap().shape(), [10, 3]);
    // What goes wrong is told with what the command said.
    let cases = [
        ("{ run: [sh, -c, 'echo no such decoder >&2; exit 3'] }", "exit status: 3", "no such decoder"),
        ("{ run: [sh, -c, 'echo 0.5'] }", "printed `0.5`", "no finite number under `value`"),
        ("{ run: [sh, -c, 'true'] }", "should print a line such as", "printed ``"),
        ("{ run: [no-such-program] }", "could not be started", "no-such-program"),
    ];
    for (command, wanted, also) in cases {
        write(folder.path(), three_scores(), &arrays, "", &pipeline(command));
        let done = sinter(folder.path(), &["run", "t.yaml", "--out", "other"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(1) && said.contains(wanted) && said.contains(also), "{command}: {said}");
    }
    write(folder.path(), three_scores(), &arrays, "", &pipeline("{ run: [] }"));
    let done = sinter(folder.path(), &["check", "t.yaml"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(2) && said.contains("the metric's command is empty"), "{said}");
}

#[test]
fn what_does_not_fit_is_told_before_anything_runs() {
    let x = uniform(7, &[40, 4]);
    let classes = Tensor::from_slice(&(0..40).map(|i| i % 3).collect::<Vec<i64>>());
    let halves = uniform(8, &[40, 3]) * 2.0;
    let cases = [
        (&classes, "task: regress\n", "", "has labels of shape []"),
        (&halves, "", "", "`task: classify` takes one for each; others (segment, regress, multi-label) take more"),
        (&halves, "task: segment\n", "", "no whole number of a class"),
        (&classes, "task: transcribe\n", "", "wants an output of [samples, steps, classes]"),
        (&halves.f_round().unwrap(), "task: transcribe\n", "", "wants an output of [samples, steps, classes]"),
        (&classes, "task: clasify\n", "", "did you mean `classify`?"),
        (&classes, "", "metric: iou\n", "these can: accuracy, cosine, f1"),
        (&classes, "", "metrics: [accuracy, cer]\n", "`cer` can't be measured here"),
        (&classes, "", "metric: { top-k: { n: 3 } }\n", "unknown key `n`"),
    ];
    for (labels, data, metric, wanted) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(
            folder.path(),
            three_scores(),
            &[("x", &x), ("y", labels)],
            data,
            &format!("{metric}stages:\n  - quantize: {{}}\n"),
        );
        let done = sinter(folder.path(), &["check", "t.yaml"]);
        let said = String::from_utf8_lossy(&done.stderr).replace("\n  │ ", " ");
        assert!(done.status.code() == Some(2) && said.contains(wanted), "{data}{metric}: {said}");
    }
}
