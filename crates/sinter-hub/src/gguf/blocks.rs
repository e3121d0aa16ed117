//! Blocks of 32 integers behind one scale of sixteen bits: Q4_0, Q5_0 and Q8_0 of llama.cpp.

use half::f16;
use sinter_model::{Granularity, Levels, QuantParams};

/// Elements to a block.
const SIZE: usize = 32;

pub(super) const Q4_0: u32 = 2;
pub(super) const Q5_0: u32 = 6;
pub(super) const Q8_0: u32 = 8;

/// The scale of the elements from a column of a row on.
fn scale(params: &QuantParams, row: usize, column: usize, columns: usize) -> f32 {
    let scales = params.scales();
    match params.granularity() {
        Granularity::Tensor => scales[0],
        Granularity::Channel(_) => scales[row],
        Granularity::Group { size, .. } => scales[row * columns.div_ceil(size) + column / size],
    }
}

/// A kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Four bits, -8 to 7.
    Q4,
    /// Five bits, -16 to 15.
    Q5,
    /// Eight bits.
    Q8,
}

impl Block {
    /// The smallest kind that holds a quantizer's integers exactly, in rows of so many columns; or what would fit.
    pub fn of(params: &QuantParams, columns: usize) -> Result<Self, String> {
        if !matches!(params.levels(), Levels::Symmetric | Levels::Signed | Levels::Binary) {
            return Err("its blocks have no zero point of whole steps: write `int4` instead of `uint4`, or so".into());
        }
        if !columns.is_multiple_of(SIZE) {
            return Err(format!("its rows of {columns} are no whole number of blocks of {SIZE}: leave the layer in float"));
        }
        if let Granularity::Group { size, .. } = params.granularity()
            && !size.is_multiple_of(SIZE)
        {
            return Err(format!("its blocks have {SIZE} elements: write `group:{SIZE}` or a multiple of it"));
        }
        Ok(match params.bits() {
            ..=4 => Self::Q4,
            5 => Self::Q5,
            _ => Self::Q8,
        })
    }

    /// Its number in files.
    pub fn kind(self) -> u32 {
        match self {
            Self::Q4 => Q4_0,
            Self::Q5 => Q5_0,
            Self::Q8 => Q8_0,
        }
    }

    /// Bytes to a block.
    fn bytes(self) -> usize {
        match self {
            Self::Q4 => 18,
            Self::Q5 => 22,
            Self::Q8 => 34,
        }
    }

    /// Rows of integers, in this order, as blocks. Errors on a scale that sixteen bits do not hold.
    pub fn encode(self, integers: &[i64], params: &QuantParams, columns: usize, rows: &[usize]) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(integers.len() / SIZE * self.bytes());
        for &row in rows {
            for start in (0..columns).step_by(SIZE) {
                let values = &integers[row * columns + start..][..SIZE];
                let real = scale(params, row, start, columns);
                let half = f16::from_f32(real);
                if half.to_f32() != real && values.iter().any(|&q| q != 0) {
                    return Err(format!("a scale of {real:e} is no number of sixteen bits, as GGUF has scales"));
                }
                out.extend(half.to_le_bytes());
                match self {
                    Self::Q8 => out.extend(values.iter().map(|&q| q as i8 as u8)),
                    Self::Q4 => {
                        out.extend((0..SIZE / 2).map(|i| (values[i] + 8) as u8 | ((values[i + SIZE / 2] + 8) as u8) << 4))
                    }
                    Self::Q5 => {
                        let lifted = |i: usize| (values[i] + 16) as u32;
                        let high = (0..SIZE).fold(0u32, |bits, i| bits | (lifted(i) >> 4) << i);
                        out.extend(high.to_le_bytes());
                        out.extend((0..SIZE / 2).map(|i| ((lifted(i) & 15) | (lifted(i + SIZE / 2) & 15) << 4) as u8));
                    }
                }
            }
        }
        Ok(out)
    }

    /// The values of blocks, as llama.cpp computes them.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let block = |block: &[u8]| -> Vec<f32> {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let nibble = |bytes: &[u8], i: usize| i32::from(if i < SIZE / 2 { bytes[i] & 15 } else { bytes[i - SIZE / 2] >> 4 });
            let integer = |i: usize| match self {
                Self::Q8 => i32::from(block[2 + i] as i8),
                Self::Q4 => nibble(&block[2..], i) - 8,
                Self::Q5 => {
                    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
                    (nibble(&block[6..], i) | ((high >> i & 1) << 4) as i32) - 16
                }
            };
            (0..SIZE).map(|i| integer(i) as f32 * scale).collect()
        };
        bytes.chunks(self.bytes()).flat_map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a block with a scale of 0.0390625, and the integers that `gguf.quants.dequantize` 0.19 sees in it.
    #[test]
    fn integers_lie_as_llama_cpp_reads_them() {
        let bytes = [
            0u8, 41, 190, 207, 147, 26, 237, 21, 245, 211, 239, 45, 5, 157, 159, 60, 54, 236, 109, 46, 199, 82, 32, 205, 36, 7,
            134, 222, 57, 146, 8, 149, 14, 15,
        ];
        let cases: [(Block, u8, [i64; SIZE]); 3] = [
            (
                Block::Q4,
                4,
                [6, 7, -5, 2, 5, -3, -3, -5, 7, 5, -3, 5, 7, 4, -2, 4, 3, 4, 1, -7, 6, -7, 7, 5, 6, -6, -8, 1, 1, -5, -5, 6],
            ),
            (
                Block::Q5,
                5,
                [
                    -3, 5, 5, 3, 15, 13, -11, 13, 15, 12, 6, 12, -3, -2, 7, 2, 14, 1, -1, -3, 14, -14, -16, 9, -7, 3, -13, 14, 6,
                    -14, -4, -11,
                ],
            ),
            (
                Block::Q8,
                8,
                [
                    -66, -49, -109, 26, -19, 21, -11, -45, -17, 45, 5, -99, -97, 60, 54, -20, 109, 46, -57, 82, 32, -51, 36, 7,
                    -122, -34, 57, -110, 8, -107, 14, 15,
                ],
            ),
        ];
        for (block, bits, integers) in cases {
            let bytes = &bytes[..block.bytes()];
            let scale = 0.039_062_5;
            let values: Vec<f32> = integers.iter().map(|&q| q as f32 * scale).collect();
            assert_eq!(block.decode(bytes), values, "{block:?}");
            let params = QuantParams::of_tensor(bits, Levels::Signed, scale, 0).unwrap();
            assert_eq!(Block::of(&params, SIZE), Ok(block));
            assert_eq!(block.encode(&integers, &params, SIZE, &[0]).unwrap(), bytes, "{block:?}");
        }
    }

    #[test]
    fn what_no_block_holds_is_told() {
        let params = |levels, granularity, scale: f32| {
            let zero = 0;
            QuantParams::new(4, levels, granularity, vec![scale; 2], vec![zero; 2]).unwrap()
        };
        let groups = |size| Granularity::Group { axis: 1, size };
        let fits = params(Levels::Symmetric, groups(64), 1.0);
        assert_eq!(Block::of(&fits, 128), Ok(Block::Q4));
        assert!(Block::of(&fits, 100).unwrap_err().contains("whole number of blocks"));
        assert!(Block::of(&params(Levels::Unsigned, groups(64), 1.0), 128).unwrap_err().contains("zero point"));
        assert!(Block::of(&params(Levels::Symmetric, groups(48), 1.0), 96).unwrap_err().contains("group:32"));
        // Sixteen bits hold neither this scale nor, where all integers are zero, need they.
        let tiny = params(Levels::Symmetric, groups(32), 1e-9);
        assert!(Block::Q4.encode(&[1; 64], &tiny, 64, &[0]).unwrap_err().contains("sixteen bits"));
        assert!(Block::Q4.encode(&[0; 64], &tiny, 64, &[0]).is_ok());
    }
}
