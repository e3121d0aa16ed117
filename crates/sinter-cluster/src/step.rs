//! The stage at work.

use std::collections::BTreeMap;

use sinter_calibrate::fisher;
use sinter_model::{Bytes, Half, Layer, Model, Role, Weight, fold_batch_norm};
use sinter_train::{Context, NoCallback, StageError, Step, StepPlan, fit_with};
use tch::{Kind, Tensor};

use crate::budget::{self, Demand};
use crate::codebooks::{Job, cluster_layer, mean_square, samples, shared_table};
use crate::config::{ClusterConfig, Importance, Precision, Scope};
use crate::reassign::{Price, Reassign};

/// Training samples that estimate importance.
const FISHER_SAMPLES: usize = 2048;

/// Clustering, resolved.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub config: ClusterConfig,
    pub plan: StepPlan,
}

impl Step for Cluster {
    fn plan(&self) -> &StepPlan {
        &self.plan
    }

    fn run(&self, mut model: Model, context: &Context) -> Result<Model, StageError> {
        let config = &self.config;
        // A normalisation folded later would scale each channel's values apart.
        fold_batch_norm(&mut model)?;
        let importance = config.importances(&model, context)?;
        let chosen = config.choose(&model, &importance, context)?;
        let table = if config.scope == Scope::Shared { Some(shared_table(&model, &chosen, &importance)?) } else { None };
        for (layer, k) in context.each("k-means", &chosen) {
            let job = Job { scope: config.scope, vector: config.vector, k: *k, seed: context.seed, table: table.as_deref() };
            cluster_layer(&mut model, layer, &job, importance.get(&layer.weight), context)?;
        }
        if config.biases == Precision::Float16 {
            others_to_half(&mut model);
        }
        if let Some(finetune) = &config.finetune {
            match config.reassign_every() {
                Some(every) => {
                    let layers = config.prices(&model, &chosen, importance)?;
                    fit_with(&mut model, finetune, context, &mut Reassign { every, layers })?;
                }
                None => fit_with(&mut model, finetune, context, &mut NoCallback)?,
            }
        }
        Ok(model)
    }
}

impl ClusterConfig {
    /// How much each weight's error counts, by name, with a mean of 1 over all layers; empty where all count alike.
    fn importances(&self, model: &Model, context: &Context) -> Result<BTreeMap<String, Tensor>, StageError> {
        if self.importance == Importance::Uniform {
            return Ok(BTreeMap::new());
        }
        let found = {
            let samples = context.data.train.sample(FISHER_SAMPLES, context.seed);
            fisher(model, context.data.task, &samples, &context.reporter())?
        };
        let names: Vec<String> = model.layers().into_iter().map(|l| l.weight).collect();
        let found: BTreeMap<String, Tensor> = found.into_iter().filter(|(n, _)| names.contains(n)).collect();
        let (mut sum, mut count) = (0.0, 0);
        for tensor in found.values() {
            sum += tensor.f_sum(Kind::Double)?.f_double_value(&[])?;
            count += tensor.numel();
        }
        let mean = (sum / count.max(1) as f64).max(1e-30);
        found.into_iter().map(|(n, t)| Ok((n, t.f_div_scalar(mean)?))).collect()
    }

    /// The layers to cluster, in graph order, and the number of their centroids, zero included.
    fn choose(
        &self,
        model: &Model,
        importance: &BTreeMap<String, Tensor>,
        context: &Context,
    ) -> Result<Vec<(Layer, usize)>, StageError> {
        let Some(budget) = self.budget else {
            let layers = model.layers().into_iter().filter_map(|l| self.wanted(model, &l).map(|k| (l, k)));
            return Ok(layers.filter(|(_, k)| *k > 0).collect());
        };
        let layers: Vec<Layer> = model.layers().into_iter().filter(|l| self.wanted(model, l) != Some(0)).collect();
        let mut demands = Vec::new();
        for layer in &layers {
            let (values, weights) = samples(model, layer, importance.get(&layer.weight))?;
            let zeros = model.weight(&layer.weight)?.numel() - values.len();
            // Without a Hessian, errors count relative to the layer's own weights: layers differ in scale.
            let scale = if importance.is_empty() { 1.0 / mean_square(&values).max(1e-30) } else { 1.0 };
            let importance = match weights {
                Some(weights) => weights,
                None => vec![scale as f32; values.len()],
            };
            demands.push(Demand { values, importance, zeros });
        }
        let (chosen, bytes) = budget::allocate(&demands, budget.0).map_err(|least| {
            let reason = format!("the clustered layers take {} at least, more than the budget of {budget}", Bytes(least));
            StageError::config_help("budget", reason, "raise the budget, or prune before clustering")
        })?;
        let each: Vec<String> = layers.iter().zip(&chosen).map(|(l, k)| format!("{} {}", l.name, k + 1)).collect();
        context.note(format!("centroids within {budget} (about {} entropy coded): {}", Bytes(bytes), each.join(", ")));
        Ok(layers.into_iter().zip(chosen).map(|(l, k)| (l, k + 1)).collect())
    }

    /// What errors and bits cost in each layer while training.
    fn prices(
        &self,
        model: &Model,
        chosen: &[(Layer, usize)],
        mut importance: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Price>, StageError> {
        // With a Hessian errors compare across layers, and so a bit costs the same in all of them.
        let weighted = !importance.is_empty();
        let mut squares = BTreeMap::new();
        for (layer, _) in chosen {
            let square = model.weight(&layer.weight)?.effective()?.f_detach()?.f_square()?;
            let kept = square.f_gt(0.0)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            let square = importance.get(&layer.weight).map_or(Ok(square.shallow_clone()), |h| square.f_mul(h))?;
            squares.insert(layer.weight.clone(), (square.f_sum(Kind::Double)?.f_double_value(&[])?, kept));
        }
        let all = squares.values().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let mean = |(sum, count): (f64, f64)| sum / count.max(1.0);
        let price = |(name, own): (String, (f64, f64))| {
            let bit = self.entropy * mean(if weighted { all } else { own });
            let importance = importance.remove(&name);
            (name, Price { importance, bit })
        };
        Ok(squares.into_iter().map(price).collect())
    }
}

/// Counts biases and all other float parameters that no link encodes as float16: next to shared weights they would be most of the file.
fn others_to_half(model: &mut Model) {
    let plain = |w: &&mut Weight| w.role != Role::Constant && w.latent().kind() == Kind::Float && !w.is_encoded();
    let layers: Vec<String> = model.layers().into_iter().map(|l| l.weight).collect();
    model
        .weights
        .iter_mut()
        .filter(|(n, _)| !layers.contains(n))
        .map(|(_, w)| w)
        .filter(plain)
        .for_each(|w| w.to_half(Half::Float16));
}
