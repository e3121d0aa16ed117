//! From what the user wrote to what will be done.

use sinter_model::{Layer, fold_batch_norm};
use sinter_train::{Forecast, LayerPlan, Setting, Stage, StageError, Step, StepPlan, TeacherRef};

use crate::config::{ClusterConfig, Scope};
use crate::step::Cluster;

impl Stage for ClusterConfig {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        self.finetune.iter().flat_map(|f| f.teachers()).collect()
    }

    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError> {
        self.check_config(&forecast.model, setting.data)?;
        let mut plan = StepPlan::new("cluster", self.what(), self);
        let folded = fold_batch_norm(&mut forecast.model)?;
        if folded > 0 {
            plan = plan.pass("fold", format!("{folded} batch normalisations into the layers before them"));
        }
        let found = match (self.vector, self.budget) {
            (1, Some(budget)) => format!("near-optimal one-dimensional k-means; centroids chosen within {budget}"),
            (1, None) => "near-optimal one-dimensional k-means".to_string(),
            (d, _) => format!("k-means over runs of {d} weights"),
        };
        plan = plan.pass("centroids", found);
        if let Some(fit) = &self.finetune {
            let every =
                self.reassign_every().map_or_else(String::new, |n| format!("; weights choose their centroids every {n} steps"));
            plan = plan.pass("finetune", format!("{}{every}", fit.describe(setting.data)));
        }
        let mut layers = Vec::new();
        let mut chosen = Vec::new();
        for layer in forecast.model.layers() {
            let found = self.layer(forecast, &layer)?;
            if found.reason.is_none() {
                chosen.push(layer);
            }
            layers.push(found);
        }
        if chosen.is_empty() {
            let reason = "no layer is left to cluster: `layers` and `vector` leave all of them out";
            return Err(StageError::config("", reason));
        }
        chosen.iter().for_each(|layer| forecast.set(layer, |e| e.clustered = Some(self.vector)));
        Ok(Box::new(Cluster { config: self.clone(), plan: plan.with_layers(layers) }))
    }
}

impl ClusterConfig {
    /// What is asked, in a few words.
    fn what(&self) -> String {
        let mut what = match (self.centroids, self.budget) {
            (Some(k), _) => format!("cluster to {k} values"),
            (None, Some(budget)) => format!("cluster to {budget}"),
            (None, None) => "cluster".into(),
        };
        if self.vector > 1 {
            what += &format!(" for {} weights each", self.vector);
        }
        if self.entropy > 0.0 {
            what += &format!(" at {} a bit", self.entropy);
        }
        self.finetune.as_ref().map_or(what.clone(), |f| format!("{what} ({})", f.epochs_text()))
    }

    /// What becomes of one layer.
    fn layer(&self, forecast: &Forecast, layer: &Layer) -> Result<LayerPlan, StageError> {
        let model = &forecast.model;
        let size = model.weight(&layer.weight)?.size();
        let row: i64 = size.iter().skip(1).product();
        let wanted = self.wanted(model, layer);
        let reason = match wanted {
            Some(0) => Some("`layers` says 0".to_string()),
            None if self.budget.is_none() => Some("no number of centroids is given for it".to_string()),
            _ if self.vector > 1 && row % self.vector as i64 != 0 && !forecast.shrunk => {
                Some(format!("rows of {row} weights are not whole runs of {}", self.vector))
            }
            _ => None,
        };
        let count = wanted.map_or_else(|| "as many values as the budget allows".to_string(), |k| format!("{k} values"));
        let table = match self.scope {
            Scope::Layer => String::new(),
            Scope::Channel => " a channel".into(),
            Scope::Shared => ", shared by all layers".into(),
        };
        let zero = if forecast.of(&layer.weight).masked { ", zero among them" } else { "" };
        let action = if reason.is_some() { String::new() } else { format!("{count}{table}{zero}") };
        let kind = model.graph.nodes[layer.node].kind().to_string();
        Ok(LayerPlan { layer: layer.name.clone(), kind, action, reason })
    }
}
