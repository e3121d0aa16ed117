//! The four reference architectures of MLPerf Tiny (Banbury et al., 2021).

use super::build::Builder;
use crate::error::OpResult;
use crate::model::Model;

/// A 10x4 convolution, then four depthwise separable blocks of 64 channels.
pub(super) fn ds_cnn(mut b: Builder, classes: i64) -> OpResult<Model> {
    let mut x = b.conv_bn_relu("conv1", "input", 64, [10, 4], 2, 1);
    for i in 1..=4 {
        x = separable(&mut b, &format!("block{i}"), &x, 64, 1);
    }
    let x = b.global_average(&x);
    let x = b.flatten(&x);
    let x = b.dense("fc", &x, classes);
    b.finish(&x)
}

/// Three residual stages of 16, 32 and 64 channels.
pub(super) fn resnet8(mut b: Builder, classes: i64) -> OpResult<Model> {
    let mut x = b.conv_bn_relu("conv1", "input", 16, [3, 3], 1, 1);
    for (i, channels) in [16, 32, 64].into_iter().enumerate() {
        let name = |part: &str| format!("stage{}.{part}", i + 1);
        let stride = if i == 0 { 1 } else { 2 };
        let y = b.conv_bn_relu(&name("conv1"), &x, channels, [3, 3], stride, 1);
        let y = b.conv_bn(&name("conv2"), &y, channels, [3, 3], 1, 1);
        let skip = if i == 0 { x } else { b.conv(&name("skip"), &x, channels, [1, 1], stride, 1, "SAME_UPPER") };
        let sum = b.add(&name("add"), &y, &skip);
        x = b.relu(&sum);
    }
    let x = b.global_average(&x);
    let x = b.flatten(&x);
    let x = b.dense("fc", &x, classes);
    b.finish(&x)
}

/// MobileNetV1 with a quarter of the channels.
pub(super) fn mobilenet(mut b: Builder, classes: i64) -> OpResult<Model> {
    let mut x = b.conv_bn_relu("conv1", "input", 8, [3, 3], 2, 1);
    let blocks = [
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (256, 2),
        (256, 1),
    ];
    for (i, (channels, stride)) in blocks.into_iter().enumerate() {
        x = separable(&mut b, &format!("block{}", i + 1), &x, channels, stride);
    }
    let x = b.global_average(&x);
    let x = b.flatten(&x);
    let x = b.dense("fc", &x, classes);
    b.finish(&x)
}

/// 640-128-128-128-128-8-128-128-128-128-640, batch normalisation and ReLU between.
pub(super) fn autoencoder(mut b: Builder) -> OpResult<Model> {
    let mut x = b.flatten("input");
    let features = b.channels(&x);
    for (i, width) in [128, 128, 128, 128, 8, 128, 128, 128, 128].into_iter().enumerate() {
        x = b.dense_without_bias(&format!("fc{}", i + 1), &x, width);
        x = b.batch_norm(&format!("bn{}", i + 1), &x);
        x = b.relu(&x);
    }
    let x = b.dense("fc10", &x, features);
    b.finish(&x)
}

fn separable(b: &mut Builder, name: &str, x: &str, channels: i64, stride: i64) -> String {
    let groups = b.channels(x);
    let x = b.conv_bn_relu(&format!("{name}.depthwise"), x, groups, [3, 3], stride, groups);
    b.conv_bn_relu(&format!("{name}.pointwise"), &x, channels, [1, 1], 1, 1)
}
