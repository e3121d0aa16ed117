//! Which stages serve a goal.

use sinter_estimate::{Rules, Target};

/// What the result shall be above all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// As few bytes as may be.
    #[default]
    Smallest,
    /// As quick as may be.
    Fastest,
    /// As near to the float model as may be.
    Accurate,
}

impl Goal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Smallest, Self::Fastest, Self::Accurate];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|goal| goal.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Smallest => "smallest",
            Self::Fastest => "fastest",
            Self::Accurate => "accurate",
        }
    }
}

/// What there is to work with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    /// A model that was never trained.
    pub untrained: bool,
    /// Labels, from which a model that is no giant can learn again what a stage took.
    pub learns: bool,
    pub language: bool,
    /// Integers from input to output.
    pub device: bool,
    pub samples: usize,
}

impl Means {
    /// Epochs that come to some two thousand steps of 64 samples.
    fn epochs(self) -> usize {
        (128_000 / self.samples.max(1)).clamp(1, 40)
    }
}

/// Whether a target computes in integers from input to output.
pub(super) fn is_device(target: Option<&Target>) -> bool {
    target.and_then(|t| t.quantization.as_ref()).is_some_and(|q| q.rules == Rules::Tflite)
}

/// Stages as YAML, the richest first: what a model has no place for gives way to the next.
pub(super) fn recipes(goal: Goal, means: Means) -> Vec<String> {
    if means.language {
        return vec![language(goal)];
    }
    let epochs = means.epochs();
    let train = match means.untrained {
        true => format!(
            "  # The model comes untrained.\n  - train: {{ epochs: {} }}\n",
            if means.samples > 20_000 { 6 } else { epochs.max(10) }
        ),
        false => String::new(),
    };
    let few = epochs.div_ceil(8);
    let unstructured = format!(
        "  # The weights that matter least go, step by step; what is left learns from labels and from the float model meanwhile.
  - prune:
      unstructured: {{ sparsity: 50%, scope: global, criterion: lamp }}
      schedule: {{ cubic: {{}} }}
      finetune: {{ epochs: {epochs}, distill: {{}} }}
"
    );
    let cluster = format!(
        "  # Thirty-two values for the weights of a layer: the packed file holds five bits a weight, or fewer.
  - cluster: {{ centroids: 32, finetune: {{ epochs: {few}, lr: 1e-4, distill: {{}} }} }}
"
    );
    let structured = format!(
        "  # Whole channels leave the graph, so that every runtime computes less.
  - prune:
      structured: {{ ratio: 30%, criterion: taylor }}
      finetune: {{ epochs: {epochs}, distill: {{}} }}
"
    );
    let plain = "  # As the target's kernels take it; 8 bits where they say nothing.\n  - quantize: {}\n".to_string();
    let guarded = "  # Layers that cost too much are lifted to more bits, until no more than this is lost.\n  - quantize: { accuracy_drop: 0.5% }\n".to_string();
    let low = "  # Four bits a weight; layers that cost too much are lifted, until no more than this is lost.\n  - quantize: { weights: int4/channel, \
               accuracy_drop: 1% }\n"
        .to_string();
    let timed = "  # Every operator is timed in ONNX Runtime, and stays in float where integers make it slower.\n  - quantize: { latency: true, accuracy_drop: 1% }\n"
        .to_string();
    let learns = means.learns || means.untrained;
    let rich: Option<Vec<String>> = match (goal, means.device, learns) {
        (Goal::Smallest, false, true) => Some(vec![unstructured, cluster, plain.clone()]),
        (Goal::Smallest, false, false) => Some(vec![low]),
        (Goal::Smallest | Goal::Fastest, true, true) => Some(vec![structured, plain.clone()]),
        (Goal::Fastest, false, _) => Some(vec![timed]),
        (Goal::Accurate, false, _) => Some(vec![guarded]),
        (_, true, _) => None,
    };
    rich.into_iter().chain([vec![plain]]).map(|stages| train.clone() + &stages.concat()).collect()
}

fn language(goal: Goal) -> String {
    let (format, rounding) = match goal {
        Goal::Accurate => ("int8/group:32", ""),
        _ => ("int4/group:32", "      rounding: gptq\n"),
    };
    format!(
        "  # Weights alone, in groups with a scale each, as transformers, vLLM and llama.cpp read them; embeddings and head stay as they are.
  - quantize:
      weights: {format}
      activations: none
{rounding}      layers: [{{ match: lm_head, weights: none }}]
"
    )
}
