//! A rule at work on the parameters of one training.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::{Past, Shared, UpdateRule};

/// A rule, what it moves, and what it remembers.
#[derive(Debug)]
pub(crate) struct Updates<'a> {
    rule: &'a dyn UpdateRule,
    parameters: Vec<(Tensor, Past)>,
}

impl<'a> Updates<'a> {
    /// Over these parameters, which gradients reach; they are moved in place.
    pub fn new(rule: &'a dyn UpdateRule, parameters: impl IntoIterator<Item = Tensor>) -> Self {
        Self { rule, parameters: parameters.into_iter().map(|p| (p, Past::default())).collect() }
    }

    /// Forgets the gradients of the last step.
    pub fn clear_gradients(&mut self) {
        self.parameters.iter_mut().for_each(|(parameter, _)| parameter.zero_grad());
    }

    /// Moves every parameter that a gradient has reached; `shared` gives what each takes, by its place.
    pub fn step(&mut self, shared: impl Fn(usize) -> Shared) -> Result<(), TchError> {
        tch::no_grad(|| {
            for (i, (parameter, past)) in self.parameters.iter_mut().enumerate() {
                let gradient = parameter.grad();
                if gradient.defined() {
                    past.steps += 1;
                    self.rule.step(parameter, &gradient, past, &shared(i))?;
                }
            }
            Ok(())
        })
    }

    /// All that is remembered, by names of its own.
    pub fn remembered(&self) -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        for (i, (_, past)) in self.parameters.iter().enumerate() {
            all.insert(format!("{i}.steps"), Tensor::from(i64::from(past.steps)));
            all.extend(past.means.iter().enumerate().map(|(m, mean)| (format!("{i}.mean{m}"), mean.shallow_clone())));
        }
        all
    }

    /// Goes on from what was remembered. Says what does not fit the parameters.
    pub fn recall(&mut self, all: &BTreeMap<String, Tensor>) -> Result<(), String> {
        for (i, (parameter, past)) in self.parameters.iter_mut().enumerate() {
            let steps = all.get(&format!("{i}.steps")).filter(|t| t.numel() == 1).ok_or_else(|| format!("no {i}.steps"))?;
            let steps = steps.f_int64_value(&[]).ok().and_then(|n| i32::try_from(n).ok());
            let means: Vec<Tensor> =
                (0..).map_while(|m| all.get(&format!("{i}.mean{m}"))).map(|mean| mean.to_kind(Kind::Float).copy()).collect();
            if let Some(mean) = means.iter().find(|mean| mean.size() != parameter.size()) {
                return Err(format!("{i}.mean has shape {:?}, the parameter {:?}", mean.size(), parameter.size()));
            }
            *past = Past { steps: steps.ok_or_else(|| format!("{i}.steps is no count"))?, means };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinter_model::{seeded, to_f32s};
    use tch::Device;
    use tch::nn::{self, OptimizerConfig};

    use super::*;
    use crate::Optimizer;

    const SHAPES: [&[i64]; 3] = [&[37, 19], &[5], &[1]];
    const STEPS: u64 = 30;

    fn draw(seed: u64) -> Vec<Tensor> {
        seeded(seed, |random| SHAPES.iter().map(|shape| random.normal(shape).unwrap()).collect())
    }

    /// A bowl whose gradient differs from step to step.
    fn loss(parameters: &[Tensor], step: u64) -> Tensor {
        let slopes = draw(1000 + step);
        let parts = parameters.iter().zip(&slopes).map(|(p, slope)| (p * slope + p.square() * 0.1).sum(Kind::Float));
        parts.reduce(|a, b| a + b).unwrap()
    }

    fn rate(step: u64) -> f64 {
        0.01 / (1.0 + step as f64)
    }

    fn values(parameters: &[Tensor]) -> Vec<Vec<u32>> {
        parameters.iter().map(|p| to_f32s(p).unwrap().into_iter().map(f32::to_bits).collect()).collect()
    }

    fn libtorchs(build: impl Fn(&nn::VarStore) -> nn::Optimizer) -> Vec<Vec<u32>> {
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        let parameters: Vec<Tensor> =
            draw(1).iter().enumerate().map(|(i, value)| root.var_copy(&format!("p{i}"), value)).collect();
        let mut optimizer = build(&store);
        for step in 0..STEPS {
            optimizer.set_lr(rate(step));
            optimizer.zero_grad();
            loss(&parameters, step).backward();
            optimizer.step();
        }
        values(&parameters)
    }

    /// The same with ours; at `interrupted` all that is remembered moves to a new rule over new tensors.
    fn ours(rule: &dyn UpdateRule, momentum: f64, weight_decay: f64, interrupted: Option<u64>) -> Vec<Vec<u32>> {
        let mut parameters: Vec<Tensor> = draw(1).into_iter().map(|p| p.set_requires_grad(true)).collect();
        let mut updates = Updates::new(rule, parameters.iter().map(Tensor::shallow_clone));
        for step in 0..STEPS {
            if interrupted == Some(step) {
                let remembered = updates.remembered();
                parameters = parameters.iter().map(|p| p.detach().copy().set_requires_grad(true)).collect();
                updates = Updates::new(rule, parameters.iter().map(Tensor::shallow_clone));
                updates.recall(&remembered).unwrap();
            }
            updates.clear_gradients();
            loss(&parameters, step).backward();
            updates.step(|_| Shared { lr: rate(step), weight_decay, momentum }).unwrap();
        }
        values(&parameters)
    }

    #[test]
    fn steps_are_libtorchs_bit_for_bit_and_survive_an_interruption() {
        for wd in [0.0, 0.02] {
            let cases: Vec<(&str, f64, Vec<Vec<u32>>)> = vec![
                ("adam", 0.0, libtorchs(|s| nn::Adam { wd, ..nn::Adam::default() }.build(s, 1.0).unwrap())),
                ("adamw", 0.0, libtorchs(|s| nn::AdamW { wd, ..nn::AdamW::default() }.build(s, 1.0).unwrap())),
                ("sgd", 0.9, libtorchs(|s| nn::Sgd { momentum: 0.9, wd, nesterov: true, dampening: 0.0 }.build(s, 1.0).unwrap())),
                ("sgd: { nesterov: false }", 0.9, libtorchs(|s| nn::sgd(0.9, 0.0, wd, false).build(s, 1.0).unwrap())),
                ("sgd", 0.0, libtorchs(|s| nn::sgd(0.0, 0.0, wd, false).build(s, 1.0).unwrap())),
            ];
            for (yaml, momentum, wanted) in cases {
                let rule: Optimizer = serde_yaml::from_str(yaml).unwrap();
                for interrupted in [None, Some(1), Some(17)] {
                    let found = ours(rule.kind(), momentum, wd, interrupted);
                    assert_eq!(
                        found, wanted,
                        "{yaml} with momentum {momentum}, weight decay {wd}, interrupted at {interrupted:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_another_training_remembered_is_refused() {
        let rule = Optimizer::default();
        let of = |shape: &[i64]| Updates::new(rule.kind(), [Tensor::zeros(shape, (Kind::Float, Device::Cpu))]);
        let mut small = of(&[2]);
        small.parameters[0].1 =
            Past { steps: 3, means: vec![Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[1f32, 2.0])] };
        assert!(of(&[3]).recall(&small.remembered()).unwrap_err().contains("shape"));
        assert!(of(&[2]).recall(&BTreeMap::new()).unwrap_err().contains("steps"));
        assert!(of(&[2]).recall(&small.remembered()).is_ok());
    }
}
