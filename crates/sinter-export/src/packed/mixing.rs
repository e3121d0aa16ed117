//! Logistic mixing: the predictions of several contexts become one (Mahoney, 2005). Integers only, so every machine predicts alike.

use super::coder::{Bits, Counter};

/// `4096 / (1 + e^(-x / 256))` for x = -2048, -1920, ..., 2048.
const SQUASH: [i32; 33] = [
    1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608, 3785, 3902, 3976, 4022,
    4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095,
];

/// The probability (of 4096) whose logit is `x / 256`.
fn squash(x: i32) -> i32 {
    let x = x.clamp(-2047, 2047) + 2048;
    let (at, rest) = ((x >> 7) as usize, x & 127);
    (SQUASH[at] * (128 - rest) + SQUASH[at + 1] * rest + 64) >> 7
}

/// The inverse of [`squash`], by table.
struct Stretch([i16; 4096]);

impl Stretch {
    fn new() -> Self {
        let mut table = [0; 4096];
        let mut next = 0;
        for x in -2047..=2047 {
            let p = squash(x) as usize;
            while next <= p && next < 4096 {
                table[next] = x as i16;
                next += 1;
            }
        }
        table[next..].fill(2047);
        Self(table)
    }

    fn of(&self, one: u32) -> i32 {
        self.0[(one >> 4) as usize & 4095] as i32
    }
}

fn stretch() -> &'static Stretch {
    static TABLE: std::sync::OnceLock<Stretch> = std::sync::OnceLock::new();
    TABLE.get_or_init(Stretch::new)
}

/// N contexts, each with its own counters, and weights that say whom to believe.
pub(super) struct Mixed<const N: usize> {
    counters: Vec<Vec<Counter>>,
    /// By weight set; in 1/65536.
    weights: Vec<[i32; N]>,
    seen: Vec<u32>,
    limit: u16,
    stretch: &'static Stretch,
}

impl<const N: usize> Mixed<N> {
    /// Context i has `sizes[i]` counters; `sets` weight sets. Counters average over the last `limit` bits.
    pub fn new(sizes: [usize; N], sets: usize, limit: u16) -> Self {
        let counters = sizes.iter().map(|&n| vec![Counter::default(); n.max(1)]).collect();
        // Each alone knows something, together they know the same thing several times.
        let weights = vec![[(65536 * 2) / (N as i32 + 2); N]; sets.max(1)];
        Self { counters, weights, seen: vec![0; sets.max(1)], limit, stretch: stretch() }
    }

    /// Codes one bit in the given contexts, mixed by a weight set.
    pub fn code(&mut self, bits: &mut impl Bits, contexts: [usize; N], set: usize, bit: bool) -> Option<bool> {
        let mut inputs = [0i32; N];
        let weights = &mut self.weights[set];
        let mut sum = 0i64;
        for i in 0..N {
            inputs[i] = self.stretch.of(self.counters[i][contexts[i]].one());
            sum += inputs[i] as i64 * weights[i] as i64;
        }
        let one = squash((sum >> 16).clamp(-2047, 2047) as i32).clamp(1, 4095);
        let bit = bits.code((one as u32) << 4, bit)?;
        // Gradient descent on the coding cost; steps shorten as the set sees more.
        let seen = &mut self.seen[set];
        let rate = 4 + 24 * 32 / (32 + *seen as i32);
        *seen = (*seen + 1).min(1 << 16);
        let error = (((bit as i32) << 12) - one) * rate;
        for i in 0..N {
            weights[i] = (weights[i] + ((inputs[i] * error + 0x2000) >> 14)).clamp(-(1 << 20), 1 << 20);
            self.counters[i][contexts[i]].learn(bit, self.limit);
        }
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretch_undoes_squash() {
        for x in -2000..2000 {
            let back = stretch().of((squash(x) as u32) << 4);
            assert_eq!(squash(back), squash(x), "{x}");
        }
    }
}
