//! What kernels of several operators share: sums of products and how they become eight bits, and how two inputs meet.

use sinter_model::Multiplier;

use super::tensor::TensorInfo;

/// How sums become eight bits: two families of kernels that differ by one step now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// By a factor in float32, to the nearest: XNNPACK, which LiteRT takes on phones and servers.
    Float,
    /// By a 31-bit multiplier and a shift, rounded at each: TensorFlow Lite Micro, CMSIS-NN and the C source.
    Fixed,
}

/// Sums of products and how they become eight bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// The tensor of the weight.
    pub weight: usize,
    /// The tensor of the bias.
    pub bias: usize,
    /// The bias itself.
    pub biases: Vec<i32>,
    /// The zero point of the input.
    pub in_zero: i32,
    /// The zero point of the output.
    pub out_zero: i32,
    /// One for all, or one an output channel.
    pub multipliers: Vec<Multiplier>,
    /// The same factors in float32, as kernels multiply that have a float unit.
    pub factors: Vec<f32>,
    /// The smallest result.
    pub low: i32,
    /// The largest result.
    pub high: i32,
}

impl Product {
    /// A sum of products, its bias in it, as eight bits.
    pub(crate) fn round(&self, sum: i32, channel: i64, rounding: Rounding) -> i8 {
        let at = channel as usize % self.multipliers.len();
        let rounded = match rounding {
            Rounding::Fixed => self.multipliers[at].apply(sum),
            Rounding::Float => (sum as f32 * self.factors[at]).round_ties_even() as i32,
        };
        rounded.saturating_add(self.out_zero).clamp(self.low, self.high) as i8
    }
}

/// How two inputs meet, over four axes: the lengths of the result, and the step along each axis in either input (0 where it repeats).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// The lengths of the result.
    pub shape: [i64; 4],
    /// The steps in either input.
    pub steps: [[i64; 4]; 2],
}

impl Broadcast {
    /// How `a` and `b` meet in `y`; `None` for more than four axes.
    pub(crate) fn of(a: &TensorInfo, b: &TensorInfo, y: &TensorInfo) -> Option<Self> {
        let shape = four(&y.shape, 1)?;
        let steps = |t: &TensorInfo| {
            let lengths = four(&t.shape, 1)?;
            let mut steps = [0; 4];
            let mut step = 1;
            for axis in (0..4).rev() {
                steps[axis] = if lengths[axis] == 1 { 0 } else { step };
                step *= lengths[axis];
            }
            Some(steps)
        };
        Some(Self { shape, steps: [steps(a)?, steps(b)?] })
    }

    /// Shows the places of the result and of both inputs.
    pub(crate) fn spread(&self, mut visit: impl FnMut(usize, usize, usize)) {
        each(&self.shape, |to, at| {
            let place = |i: usize| (0..4).map(|a| at[a] * self.steps[i][a]).sum::<i64>() as usize;
            visit(to, place(0), place(1));
        });
    }
}

/// Four lengths, in front filled up; `None` for more axes.
pub(crate) fn four(values: &[i64], fill: i64) -> Option<[i64; 4]> {
    let more = 4usize.checked_sub(values.len())?;
    Some(std::array::from_fn(|i| if i < more { fill } else { values[i - more] }))
}

/// Shows every index of four axes with its place.
pub(crate) fn each(shape: &[i64; 4], mut visit: impl FnMut(usize, [i64; 4])) {
    let mut place = 0;
    for a in 0..shape[0] {
        for b in 0..shape[1] {
            for c in 0..shape[2] {
                for d in 0..shape[3] {
                    visit(place, [a, b, c, d]);
                    place += 1;
                }
            }
        }
    }
}
