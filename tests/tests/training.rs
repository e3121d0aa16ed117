//! Every architecture of the zoo learns from scratch; losses and metrics are what they should be.

use sinter_data::{DataConfig, Dataset};
use sinter_estimate::GENERIC;
use sinter_model::zoo::ZooModel;
use sinter_train::{Context, Event, FitConfig, Forgetful, Metric, StageError, evaluate, fit};
use tch::{Device, Kind, Tensor};

fn parse<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_yaml::with::singleton_map_recursive::deserialize(serde_yaml::Deserializer::from_str(yaml)).unwrap()
}

/// Two classes that differ in the mean of their samples.
fn write_two_classes(path: &std::path::Path, shape: &[i64], count: i64) {
    use npyz::WriterBuilder;
    tch::manual_seed(11);
    let dims = [&[count], shape].concat();
    let sign = Tensor::arange(count, (Kind::Float, Device::Cpu)).remainder(2) * 2 - 1;
    let mut spread = vec![1i64; dims.len()];
    spread[0] = count;
    let x = Tensor::randn(&dims[..], (Kind::Float, Device::Cpu)) * 0.5 + sign.reshape(&spread[..]) * 0.8;
    let mut archive = npyz::npz::NpzWriter::create(path).unwrap();
    let dims: Vec<u64> = dims.iter().map(|&n| n as u64).collect();
    let mut writer = archive.array("x", Default::default()).unwrap().default_dtype().shape(&dims).begin_nd().unwrap();
    writer.extend(sinter_model::to_f32s(&x).unwrap()).unwrap();
    writer.finish().unwrap();
    let mut writer = archive.array("y", Default::default()).unwrap().default_dtype().shape(&[count as u64]).begin_nd().unwrap();
    writer.extend((0..count).map(|i| i % 2)).unwrap();
    writer.finish().unwrap();
}

#[test]
fn every_architecture_learns() {
    for zoo in ZooModel::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.npz");
        let shape = zoo.default_input();
        write_two_classes(&path, &shape, 160);
        let task = if zoo == ZooModel::Autoencoder { "reconstruct" } else { "classify" };
        let config: DataConfig = parse(&format!(
            "name: two\ntask: {task}\nsource: {{ numpy: {{ path: {} }} }}\nsplit: {{ validation: 10% }}",
            path.display()
        ));
        let data = Dataset::open(&config).unwrap();
        tch::manual_seed(2);
        let mut model = zoo.build(&shape, 2).unwrap();
        let losses = std::cell::RefCell::new(Vec::new());
        let events = |event: Event| {
            if let Event::Epoch { loss, .. } = event {
                losses.borrow_mut().push(loss);
            }
        };
        let teacher = |_: &sinter_train::TeacherRef| Err(StageError::config("", "no teacher"));
        let context = Context { data: &data, target: &GENERIC, seed: 1, events: &events, teacher: &teacher, memory: &Forgetful };
        let before: Vec<(String, Tensor)> = model.weights.iter().map(|(n, w)| (n.clone(), w.latent().copy())).collect();
        fit(&mut model, &FitConfig { batch_size: 8, lr: 3e-3, ..FitConfig::epochs(4) }, &context).unwrap();
        let losses = losses.into_inner();
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(losses.len() == 4 && least < 0.8 * losses[0], "{}: {losses:?}", zoo.name());
        let quality = evaluate(&model, &data.test, data.task, None).unwrap();
        match zoo {
            ZooModel::Autoencoder => assert_eq!(quality.metric, Metric::Auc),
            _ => assert!(quality.value > 0.8, "{}: {}", zoo.name(), quality.value),
        }
        // Every parameter moved, and so did the statistics of normalisation.
        for (name, old) in before {
            assert!(!model.weights[&name].latent().equal(&old), "{}: {name} did not change", zoo.name());
            assert!(!model.weights[&name].latent().requires_grad());
        }
    }
}

#[test]
fn divergence_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    write_two_classes(&path, &[1, 8, 8], 64);
    let data = Dataset::open(&parse(&format!("name: two\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap();
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2).unwrap();
    let teacher = |_: &sinter_train::TeacherRef| Err(StageError::config("", "no teacher"));
    let context = Context { data: &data, target: &GENERIC, seed: 1, events: &|_| {}, teacher: &teacher, memory: &Forgetful };
    let config: FitConfig = parse("{ epochs: 20, optimizer: sgd, lr: 1e12, schedule: constant }");
    let error = fit(&mut model, &config, &context).unwrap_err().to_string();
    assert!(error.contains("training diverged") && error.contains("lower `lr`"), "{error}");
}

#[test]
fn early_stopping_keeps_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    write_two_classes(&path, &[1, 8, 8], 120);
    let yaml = format!("name: two\nsource: {{ numpy: {{ path: {} }} }}\nsplit: {{ validation: 30% }}", path.display());
    let data = Dataset::open(&parse(&yaml)).unwrap();
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2).unwrap();
    let epochs = std::cell::RefCell::new(Vec::new());
    let events = |event: Event| {
        if let Event::Epoch { value, .. } = event {
            epochs.borrow_mut().push(value.unwrap());
        }
    };
    let teacher = |_: &sinter_train::TeacherRef| Err(StageError::config("", "no teacher"));
    let context = Context { data: &data, target: &GENERIC, seed: 1, events: &events, teacher: &teacher, memory: &Forgetful };
    fit(&mut model, &parse("{ epochs: 60, patience: 3 }"), &context).unwrap();
    let values = epochs.into_inner();
    assert!(values.len() < 60, "it never stopped");
    let best = values.iter().copied().fold(0.0, f64::max);
    assert_eq!(evaluate(&model, &data.validation, data.task, None).unwrap().value, best);
}

/// A classifier that ends in Softmax is trained on what goes into it: the loss of a softmax of a softmax can't fall below 0.313 here.
#[test]
fn a_softmax_at_the_end_does_not_spoil_training() {
    use sinter_model::{Attributes, Node};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.npz");
    write_two_classes(&path, &[1, 8, 8], 120);
    let data = Dataset::open(&parse(&format!("name: two\nsource: {{ numpy: {{ path: {} }} }}", path.display()))).unwrap();
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2).unwrap();
    let tail = Node::new("softmax", "Softmax", Attributes::new(), vec!["output".into()], vec!["chances".into()]).unwrap();
    model.graph.nodes.push(tail);
    model.graph.outputs[0].name = "chances".into();
    let least = std::cell::Cell::new(f64::INFINITY);
    let events = |event: Event| {
        if let Event::Epoch { loss, .. } = event {
            least.set(least.get().min(loss));
        }
    };
    let teacher = |_: &sinter_train::TeacherRef| Err(StageError::config("", "no teacher"));
    let context = Context { data: &data, target: &GENERIC, seed: 1, events: &events, teacher: &teacher, memory: &Forgetful };
    fit(&mut model, &FitConfig { batch_size: 16, ..FitConfig::epochs(6) }, &context).unwrap();
    assert!(least.get() < 0.2, "{}", least.get());
    assert_eq!(model.graph.outputs[0].name, "chances");
    assert!(evaluate(&model, &data.test, data.task, None).unwrap().value > 0.9);
}
