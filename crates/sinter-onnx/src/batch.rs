//! A batch that a file fixes at one, made free where nothing in the model insists on it.

use sinter_model::{Dim, ElementType, Inputs, Mode, Model, ints_of, seeded, to_i64s};
use tch::Tensor;

/// A model exported for one sample runs on batches too when nothing in it insists on one: try with two, as it is, then with targets of Reshape that leave
/// the batch open and without initial states of zeros. It stays as it was where neither gives each sample what it gets alone.
pub(crate) fn free_the_batch(model: &mut Model) {
    let one = |shape: &[Dim]| shape.first() == Some(&Dim::Fixed(1));
    let (inputs, outputs) = (&model.graph.inputs, &model.graph.outputs);
    if inputs.is_empty() || !model.graph.state.is_empty() || !inputs.iter().chain(outputs).all(|v| one(&v.shape)) {
        return;
    }
    let mut trial = model.copy();
    for value in trial.graph.inputs.iter_mut().chain(&mut trial.graph.outputs) {
        value.shape[0] = Dim::Free("batch".into());
    }
    if apart(&trial, model) == Some(true) {
        *model = trial;
        return;
    }
    loosen(&mut trial);
    if apart(&trial, model) == Some(true) {
        *model = trial;
    }
}

/// Whether each of two samples gets in company what it gets alone in the model as it was; `None` where it does not run.
fn apart(trial: &Model, as_it_was: &Model) -> Option<bool> {
    tch::no_grad(|| {
        let input = |info: &sinter_model::ValueInfo| match info.element {
            ElementType::Float => seeded(1, |random| random.normal(&info.concrete(2))).ok(),
            // Two that differ, and that tables of few rows have.
            other => {
                let one = Tensor::ones(info.concrete(1), (other.kind(), tch::Device::Cpu));
                Some(Tensor::cat(&[&one, &one.zeros_like()], 0))
            }
        };
        let inputs = trial.graph.inputs.iter().map(input).collect::<Option<Vec<Tensor>>>()?;
        let both = sinter_exec::Runner::new(trial).ok()?.run(&inputs, Mode::Predict).ok()?;
        let before = sinter_exec::Runner::new(as_it_was).ok()?;
        let mut agree = true;
        for sample in 0..2 {
            let alone: Vec<Tensor> = inputs.iter().map(|t| t.narrow(0, sample, 1)).collect();
            for (a, b) in before.run(&alone, Mode::Predict).ok()?.iter().zip(&both) {
                let same = b.dim() > 0 && b.size()[0] == 2 && a.allclose(&b.narrow(0, sample, 1), 1e-3, 1e-4, true);
                agree = agree && same;
            }
        }
        Some(agree)
    })
}

/// Opens what says one where it may mean the batch: the first length of each Reshape, and initial states of zeros, which are the default of every batch.
fn loosen(model: &mut Model) {
    for at in 0..model.graph.nodes.len() {
        let node = &model.graph.nodes[at];
        match node.kind() {
            "Reshape" => {
                let Some(mut target) = node.inputs.get(1).and_then(|name| stored(model, name)) else { continue };
                let free = target.contains(&-1);
                match target.first_mut() {
                    Some(first) if *first == 1 && free => *first = 0,
                    Some(first) if !free => *first = -1,
                    _ => continue,
                }
                let name = format!("{}.open", node.inputs[1]);
                let name = model.add_constant(&name, ints_of(&target));
                model.graph.nodes[at].inputs[1] = name;
            }
            "LSTM" | "GRU" | "RNN" => {
                for state in [5, 6] {
                    let name = model.graph.nodes[at].inputs.get(state);
                    let zeros = name.and_then(|n| model.weights.get(n)).is_some_and(|w| zero(w.latent()));
                    if zeros {
                        model.graph.nodes[at].inputs[state].clear();
                    }
                }
            }
            _ => {}
        }
    }
    model.drop_unused();
}

fn zero(tensor: &Tensor) -> bool {
    tensor.f_any().and_then(|t| t.f_int64_value(&[])).is_ok_and(|any| any == 0)
}

/// Whole numbers that are stored, or that a node holds.
fn stored(model: &Model, name: &str) -> Option<Vec<i64>> {
    if let Some(weight) = model.weights.get(name) {
        return to_i64s(weight.latent()).ok();
    }
    let node = model.graph.nodes.iter().find(|n| n.kind() == "Constant" && n.outputs[0] == name)?;
    to_i64s(node.compute(&Inputs(&[]), Mode::Predict).ok()?.first()?).ok()
}
