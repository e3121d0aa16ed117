//! Every architecture of the zoo learns from scratch; losses and metrics are what they should be.

use sinter_estimate::GENERIC;
use sinter_fixtures::{events_of, parse, two_classes};
use sinter_model::zoo::ZooModel;
use sinter_task::evaluate;
use sinter_train::{Context, Event, Events, FitConfig, fit};
use tch::Tensor;

fn losses(events: &[Event]) -> Vec<f64> {
    let loss = |event: &Event| if let Event::Epoch { loss, .. } = event { Some(*loss) } else { None };
    events.iter().filter_map(loss).collect()
}

#[test]
fn every_architecture_learns() {
    for zoo in ZooModel::ALL {
        let folder = tempfile::tempdir().unwrap();
        let shape = zoo.default_input();
        let task = if zoo == ZooModel::Autoencoder { "reconstruct" } else { "classify" };
        let data = two_classes(folder.path(), &shape, 160, &format!("task: {task}\nsplit: {{ validation: 10% }}"));
        let mut model = zoo.build(&shape, 2, 2).unwrap();
        let before: Vec<(String, Tensor)> = model.weights.iter().map(|(n, w)| (n.clone(), w.latent().copy())).collect();
        let config = FitConfig { batch_size: 8, lr: 3e-3, freeze_batch_norm: Some(false), ..FitConfig::epochs(4) };
        let ((), events) =
            events_of(|events: Events| fit(&mut model, &config, &Context { events, ..Context::alone(&data, &GENERIC) }).unwrap());
        let losses = losses(&events);
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(losses.len() == 4 && least < 0.8 * losses[0], "{}: {losses:?}", zoo.name());
        let quality = evaluate(&model, &data.test, data.task, None, None).unwrap();
        match zoo {
            ZooModel::Autoencoder => assert_eq!(quality.metric.name, "AUC"),
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
    let data = two_classes(folder.path(), &[1, 8, 8], 64, "");
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2, 2).unwrap();
    let config: FitConfig = parse("{ epochs: 20, optimizer: sgd, lr: 1e12, schedule: constant }");
    let error = fit(&mut model, &config, &Context::alone(&data, &GENERIC)).unwrap_err().to_string();
    assert!(error.contains("training diverged") && error.contains("lower `lr`"), "{error}");
}

#[test]
fn early_stopping_keeps_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let data = two_classes(folder.path(), &[1, 8, 8], 120, "split: { validation: 30% }");
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2, 2).unwrap();
    let config = parse("{ epochs: 60, patience: 3 }");
    let ((), events) =
        events_of(|events| fit(&mut model, &config, &Context { events, ..Context::alone(&data, &GENERIC) }).unwrap());
    let value = |event: &Event| if let Event::Epoch { value, .. } = event { *value } else { None };
    let values: Vec<f64> = events.iter().filter_map(value).collect();
    assert!(values.len() < 60, "it never stopped");
    let best = values.iter().copied().fold(0.0, f64::max);
    assert_eq!(evaluate(&model, &data.validation, data.task, None, None).unwrap().value, best);
}

/// A classifier that ends in Softmax is trained on what goes into it: the loss of a softmax of a softmax can't fall below 0.313 here.
#[test]
fn a_softmax_at_the_end_does_not_spoil_training() {
    use sinter_model::{Attributes, Node};
    let folder = tempfile::tempdir().unwrap();
    let data = two_classes(folder.path(), &[1, 8, 8], 120, "");
    let mut model = ZooModel::Lenet300100.build(&[1, 8, 8], 2, 2).unwrap();
    let tail = Node::new("softmax", "Softmax", Attributes::new(), vec!["output".into()], vec!["chances".into()]).unwrap();
    model.graph.nodes.push(tail);
    model.graph.outputs[0].name = "chances".into();
    let config = FitConfig { batch_size: 16, ..FitConfig::epochs(6) };
    let ((), events) =
        events_of(|events| fit(&mut model, &config, &Context { events, ..Context::alone(&data, &GENERIC) }).unwrap());
    let least = losses(&events).into_iter().fold(f64::INFINITY, f64::min);
    assert!(least < 0.2, "{least}");
    assert_eq!(model.graph.outputs[0].name, "chances");
    assert!(evaluate(&model, &data.test, data.task, None, None).unwrap().value > 0.9);
}
