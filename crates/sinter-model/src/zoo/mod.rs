//! Built-in architectures, freshly initialised and trainable from scratch.

mod build;
mod mlperf_tiny;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::OpResult;
use crate::model::Model;
pub use build::Builder;

/// The name of a built-in architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ZooModel {
    /// Two hidden layers of 300 and 100 (LeCun et al., 1998); 266,610 parameters on MNIST.
    #[serde(rename = "lenet-300-100")]
    Lenet300100,
    /// The Caffe variant, 20-50-500-10, with ReLU and max pooling; 431,080 parameters on MNIST.
    #[serde(rename = "lenet5")]
    Lenet5,
    /// Depthwise separable CNN for keyword spotting (Zhang et al., 2017), as in MLPerf Tiny; input 1 x 49 x 10.
    #[serde(rename = "ds-cnn")]
    DsCnn,
    /// Three residual blocks, as in MLPerf Tiny image classification; input 3 x 32 x 32.
    #[serde(rename = "resnet8")]
    Resnet8,
    /// MobileNetV1 at width 0.25 (Howard et al., 2017), as in MLPerf Tiny person detection; input 3 x 96 x 96.
    #[serde(rename = "mobilenet-v1-0.25")]
    MobilenetV1,
    /// The fully connected autoencoder of MLPerf Tiny anomaly detection; input 640.
    #[serde(rename = "autoencoder")]
    Autoencoder,
}

impl ZooModel {
    /// All of them.
    pub const ALL: [ZooModel; 6] =
        [Self::Lenet300100, Self::Lenet5, Self::DsCnn, Self::Resnet8, Self::MobilenetV1, Self::Autoencoder];

    /// The name in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lenet300100 => "lenet-300-100",
            Self::Lenet5 => "lenet5",
            Self::DsCnn => "ds-cnn",
            Self::Resnet8 => "resnet8",
            Self::MobilenetV1 => "mobilenet-v1-0.25",
            Self::Autoencoder => "autoencoder",
        }
    }

    /// The shape of one sample when the data does not say.
    pub fn default_input(self) -> Vec<i64> {
        match self {
            Self::Lenet300100 | Self::Lenet5 => vec![1, 28, 28],
            Self::DsCnn => vec![1, 49, 10],
            Self::Resnet8 => vec![3, 32, 32],
            Self::MobilenetV1 => vec![3, 96, 96],
            Self::Autoencoder => vec![640],
        }
    }

    /// The number of classes when the data does not say; the autoencoder has none.
    pub fn default_classes(self) -> i64 {
        match self {
            Self::DsCnn => 12,
            Self::MobilenetV1 => 2,
            _ => 10,
        }
    }

    /// Builds the model for samples of the given shape, initialised from `seed` (He et al., 2015). The graph ends in
    /// logits. Errors when the shape does not fit the architecture.
    pub fn build(self, input: &[i64], classes: i64, seed: u64) -> OpResult<Model> {
        let rank = self.default_input().len();
        if input.iter().any(|&n| n < 1) || classes < 1 || (rank > 1 && input.len() != rank) {
            crate::error::invalid!(
                "{} takes samples of rank {rank} such as {:?}, not {input:?} with {classes} classes",
                self.name(),
                self.default_input()
            );
        }
        let mut b = Builder::new(self.name(), input, seed);
        match self {
            Self::Lenet300100 => {
                let x = b.flatten("input");
                let x = b.dense("fc1", &x, 300);
                let x = b.relu(&x);
                let x = b.dense("fc2", &x, 100);
                let x = b.relu(&x);
                let x = b.dense("fc3", &x, classes);
                b.finish(&x)
            }
            Self::Lenet5 => {
                let x = b.conv("conv1", "input", 20, [5, 5], 1, 1, "VALID");
                let x = b.max_pool(&x, 2);
                let x = b.conv("conv2", &x, 50, [5, 5], 1, 1, "VALID");
                let x = b.max_pool(&x, 2);
                let x = b.flatten(&x);
                let x = b.dense("fc1", &x, 500);
                let x = b.relu(&x);
                let x = b.dense("fc2", &x, classes);
                b.finish(&x)
            }
            Self::DsCnn => mlperf_tiny::ds_cnn(b, classes),
            Self::Resnet8 => mlperf_tiny::resnet8(b, classes),
            Self::MobilenetV1 => mlperf_tiny::mobilenet(b, classes),
            Self::Autoencoder => mlperf_tiny::autoencoder(b),
        }
    }
}
