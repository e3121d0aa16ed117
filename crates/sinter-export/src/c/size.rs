//! What the C source takes in flash on a Cortex-M, where its compiler is not at hand: constants, which are the same everywhere, and code, of which each
//! kernel's size is known.

use crate::device::{LowerError, Program, plan};

use super::body;

/// Bytes of code of each kernel: the least and the most over Cortex-M0+, M3, M4, M7, M33 and M55, by arm-none-eabi-gcc 12.2 with -Os. A test compiles
/// them again where that compiler is.
const KERNELS: [(&str, u64, u64); 14] = [
    ("sinter_add", 216, 240),
    ("sinter_average_pool", 208, 216),
    ("sinter_concat", 48, 64),
    ("sinter_conv", 320, 344),
    ("sinter_copy", 16, 28),
    ("sinter_dense", 112, 128),
    ("sinter_depthwise", 252, 284),
    ("sinter_max_pool", 164, 200),
    ("sinter_mean", 128, 144),
    ("sinter_mul", 188, 200),
    ("sinter_pad", 168, 180),
    ("sinter_softmax", 168, 204),
    ("sinter_table", 24, 36),
    ("sinter_transpose", 172, 188),
];
/// Rescaling, which most kernels share.
const SHARED: (u64, u64) = (212, 248);
/// The three functions of the model itself, and each call of a kernel.
const FRAME: (u64, u64) = (24, 64);
const CALL: (u64, u64) = (12, 72);
/// Division and products of 64 bits, and copying, from the compiler's library: some programs have them anyhow.
const LIBRARY: (u64, u64) = (0, 1536);

/// The least and the most bytes of flash on any Cortex-M: weights, biases, tables and code.
pub fn flash(program: &Program) -> Result<(u64, u64), LowerError> {
    let text = body(program, &plan(program))?;
    let constants: usize = program.tensors.iter().filter_map(|t| t.data.as_ref()).map(Vec::len).sum();
    let numbers = 4 * numbers(&text);
    let mut total = [0, 1].map(|end| {
        let pick = |range: (u64, u64)| if end == 0 { range.0 } else { range.1 };
        (constants + numbers) as u64 + pick(SHARED) + pick(FRAME) + pick(CALL) * program.steps.len() as u64 + pick(LIBRARY)
    });
    for (_, low, high) in KERNELS.iter().filter(|(kernel, ..)| text.contains(&format!(" {kernel}("))) {
        total[0] += low;
        total[1] += high;
    }
    Ok((total[0], total[1]))
}

/// The numbers that kernels are called with, and pointers among them: 32 bits each.
fn numbers(text: &str) -> usize {
    let declared = text.split("static const sinter_").skip(1);
    let value = |part: &str| {
        let value = part.split_once('=').map_or("", |(_, value)| value);
        let value = value.split_once(';').map_or(value, |(value, _)| value);
        value.split([',', '{', '}', '\n']).filter(|word| !word.trim().is_empty()).count()
    };
    declared.map(value).sum()
}
