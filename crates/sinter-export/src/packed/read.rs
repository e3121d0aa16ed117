//! Bytes to model. Nothing that the file says is believed before it is checked against what the file holds.

use std::io::Read;

use flate2::read::DeflateDecoder;
use sinter_model::{Codebook, ElementType, Grid, Mask, Model, OpError, Weight, to_f32s};
use tch::Tensor;

use super::PackError;
use super::coder::Decoder;
use super::layout::{Coding, GridEntry, Header, MAGIC, TensorEntry, VERSION, crc};
use super::symbols::{IndexCoder, IntegerCoder};

/// Coded elements for each byte of the coded part: the least that the coder spends on a symbol is 1/946 bit.
const ELEMENTS_PER_BYTE: usize = 8192;
/// A deflated part grows by at most so much.
const DEFLATE_RATIO: usize = 1100;

fn damaged<T>(what: impl Into<String>) -> Result<T, PackError> {
    Err(PackError::Damaged(what.into()))
}

/// Reads a packed file. Damage of any kind is an error; allocations are bounded by the length of the file.
pub fn unpack(bytes: &[u8]) -> Result<Model, PackError> {
    if bytes.len() < MAGIC.len() + 1 || &bytes[..MAGIC.len()] != MAGIC {
        return Err(PackError::Magic);
    }
    let version = bytes[MAGIC.len()];
    if version != VERSION {
        return Err(PackError::Version(version));
    }
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else { return damaged("it ends too early") };
    if body.len() <= MAGIC.len() || crc(body) != u32::from_le_bytes(*sum) {
        return damaged("its checksum does not match");
    }
    let mut rest = &body[MAGIC.len() + 1..];
    let mut part = || -> Result<&[u8], PackError> {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return damaged("a part is missing") };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((part, after)) = after.split_at_checked(length) else { return damaged("a part is cut off") };
        rest = after;
        Ok(part)
    };
    let (header, raw, coded) = (inflate(part()?)?, part()?, part()?);
    let raw = match raw.split_first() {
        Some((0, raw)) => raw.to_vec(),
        Some((1, raw)) => inflate(raw)?,
        _ => return damaged("the raw part has an unknown form"),
    };
    let header: Header = serde_json::from_slice(&header).map_err(|e| PackError::Damaged(format!("header: {e}")))?;
    let Some(decoder) = Decoder::new(coded) else { return damaged("the coded part is unreadable") };
    let mut reader = Reader { raw: &raw, decoder, left: ELEMENTS_PER_BYTE * (coded.len() + 8) };
    let mut model = Model { name: header.name, graph: header.graph, ..Model::default() };
    for entry in &header.tensors {
        let weight = reader.tensor(entry)?;
        model.weights.insert(entry.name.clone(), weight);
    }
    for (name, entry) in &header.activations {
        let grid = reader.grid(entry, name)?;
        model.activations.insert(name.clone(), grid);
    }
    Ok(model)
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, PackError> {
    let limit = (bytes.len() + 64) * DEFLATE_RATIO;
    let mut out = Vec::new();
    let read = DeflateDecoder::new(bytes).take(limit as u64).read_to_end(&mut out);
    match read {
        Ok(n) if n < limit => Ok(out),
        _ => damaged("a part can't be inflated"),
    }
}

struct Reader<'a> {
    raw: &'a [u8],
    decoder: Decoder,
    /// Coded elements that the file can still hold.
    left: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize, size: usize) -> Result<&[u8], PackError> {
        let split = count.checked_mul(size).and_then(|n| self.raw.split_at_checked(n));
        let Some((taken, rest)) = split else { return damaged("the raw part is too short") };
        self.raw = rest;
        Ok(taken)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, PackError> {
        let bytes = self.take(count, 4)?;
        Ok(bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect())
    }

    fn grid(&mut self, entry: &GridEntry, name: &str) -> Result<Grid, PackError> {
        let scales = self.floats(entry.scales)?;
        let Some(levels) = entry.levels() else { return damaged(format!("the grid of `{name}` is unknown")) };
        let zeros = if entry.zero_points.is_empty() { vec![0; scales.len()] } else { entry.zero_points.clone() };
        Grid::new(entry.bits, levels, entry.shape(), &scales, &zeros).map_err(at(name))
    }

    fn tensor(&mut self, entry: &TensorEntry) -> Result<Weight, PackError> {
        let name = &entry.name;
        let count = entry.shape.iter().try_fold(1usize, |a, &n| usize::try_from(n).ok().and_then(|n| a.checked_mul(n)));
        let impossible = || damaged(format!("`{name}` has the impossible shape {:?}", entry.shape));
        let Some(count) = count else { return impossible() };
        if !matches!(entry.coding, Coding::Raw(_)) {
            let Some(left) = self.left.checked_sub(count) else { return impossible() };
            self.left = left;
        }
        if entry.grid.as_ref().is_some_and(|g| g.axis.is_some_and(|a| entry.shape.get(a) != Some(&(g.scales as i64)))) {
            return damaged(format!("the grid of `{name}` does not fit its shape {:?}", entry.shape));
        }
        let grid = entry.grid.as_ref().map(|g| self.grid(g, name)).transpose()?;
        let shaped = |t: Result<Tensor, tch::TchError>| -> Result<Tensor, PackError> {
            t.and_then(|t| t.f_reshape(&entry.shape[..])).map_err(|e| at(name)(e.into()))
        };
        let mut table: Option<(Vec<f32>, Vec<i64>)> = None;
        let value = match entry.coding {
            Coding::Raw(element) => self.raw_tensor(entry, element, count)?,
            Coding::Sparse => {
                let mut flags = IndexCoder::new(2, Some(0));
                let kept = (0..count).map(|_| self.index(&mut flags, 2).map(|i| i != 0)).collect::<Result<Vec<bool>, _>>()?;
                let stored = self.floats(kept.iter().filter(|k| **k).count())?;
                let mut stored = stored.into_iter();
                let values: Vec<f32> = kept.iter().map(|&k| if k { stored.next().unwrap_or(0.0) } else { 0.0 }).collect();
                shaped(Tensor::f_from_slice(&values))?
            }
            Coding::Table(k) => {
                let values = self.floats(k)?;
                let zero = values.iter().position(|&v| v == 0.0).map(|z| z as u32);
                let indices = self.indices(count, k, zero)?;
                let flat: Vec<f32> = indices.iter().map(|&i| values[i as usize]).collect();
                table = Some((values, indices));
                shaped(Tensor::f_from_slice(&flat))?
            }
            Coding::IntegerTable(_) | Coding::Integers => {
                let Some(grid) = &grid else { return damaged(format!("`{name}` holds integers but no grid")) };
                let (integers, indices) = self.integers(entry.coding, count)?;
                let q = shaped(Tensor::f_from_slice(&integers))?;
                let value = grid.dequantize(&q).map_err(at(name))?;
                if let (true, Some(indices)) = (entry.codebook, indices) {
                    table = Some((representatives(&value, &indices).map_err(at(name))?, indices));
                }
                value
            }
        };
        let mask = match entry.mask {
            Some(m) => {
                let keep = value.f_ne(0).map_err(|e| at(name)(e.into()))?;
                Some(Mask::new(&keep, m.nm).map_err(at(name))?)
            }
            None => None,
        };
        let codebook = match (entry.codebook, table) {
            (true, Some((values, indices))) => {
                let indices = shaped(Tensor::f_from_slice(&indices))?;
                let zero = values.iter().position(|&v| v == 0.0).filter(|_| mask.is_some());
                Some(Codebook::new(&Tensor::from_slice(&values), &indices, zero).map_err(at(name))?)
            }
            _ => None,
        };
        Ok(Weight::from_parts(entry.role, value, mask, codebook, grid))
    }

    fn raw_tensor(&mut self, entry: &TensorEntry, element: ElementType, count: usize) -> Result<Tensor, PackError> {
        let bytes = self.take(count, element.bytes())?;
        Tensor::f_from_data_size(bytes, &entry.shape, element.kind()).map_err(|e| at(&entry.name)(e.into()))
    }

    fn index(&mut self, coder: &mut IndexCoder, count: usize) -> Result<u32, PackError> {
        match coder.code(&mut self.decoder, 0) {
            Some(i) if (i as usize) < count => Ok(i),
            _ => damaged("a symbol is out of range"),
        }
    }

    fn indices(&mut self, count: usize, values: usize, zero: Option<u32>) -> Result<Vec<i64>, PackError> {
        if values == 0 && count > 0 {
            return damaged("a table is empty");
        }
        let mut coder = IndexCoder::new(values.max(1), zero);
        (0..count).map(|_| self.index(&mut coder, values).map(i64::from)).collect()
    }

    /// The integers, and the indices where they came by table.
    fn integers(&mut self, coding: Coding, count: usize) -> Result<(Vec<i64>, Option<Vec<i64>>), PackError> {
        let mut coder = IntegerCoder::new();
        let mut next = |decoder: &mut Decoder| match coder.code(decoder, 0) {
            Some(v) => Ok(v),
            None => damaged("an integer is unreadable"),
        };
        let Coding::IntegerTable(k) = coding else {
            return Ok(((0..count).map(|_| next(&mut self.decoder)).collect::<Result<_, _>>()?, None));
        };
        if k > count {
            return damaged("a table is impossibly long");
        }
        let mut table = Vec::new();
        let mut previous = 0i64;
        for _ in 0..k {
            let Some(v) = previous.checked_add(next(&mut self.decoder)?) else { return damaged("an integer overflows") };
            table.push(v);
            previous = v;
        }
        let zero = table.iter().position(|&v| v == 0).map(|z| z as u32);
        let indices = self.indices(count, k, zero)?;
        Ok((indices.iter().map(|&i| table[i as usize]).collect(), Some(indices)))
    }
}

/// The value that each index stands for. A codebook lies under a grid of one scale, so one index has one value.
fn representatives(value: &Tensor, indices: &[i64]) -> Result<Vec<f32>, OpError> {
    let values = to_f32s(value)?;
    let count = indices.iter().max().map_or(1, |&m| m as usize + 1);
    let mut table = vec![0.0; count];
    indices.iter().zip(&values).for_each(|(&i, &v)| table[i as usize] = v);
    Ok(table)
}

fn at(name: &str) -> impl Fn(OpError) -> PackError + '_ {
    move |source| PackError::Weight { weight: name.to_string(), source }
}
