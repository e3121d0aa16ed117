//! Bytes to model. Nothing that the file says is believed before it is checked against what the file holds.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::DeflateDecoder;
use rayon::prelude::*;
use sinter_model::{Chain, Codebook, ElementType, Half, Mask, Model, OpError, QuantParams, Quantizer, Weight, guarded};
use tch::{Kind, Tensor};

use super::PackError;
use super::coder::Decoder;
use super::layout::{
    CodebookEntry, Coding, Header, MAGIC, QuantizerEntry, Symbols, TensorEntry, VERSION, columns, crc, read_length,
};
use super::numbers::{FloatCoder, IntegerCoder};
use super::symbols::{MixedIndices, PIECE, PlainIndices};
use super::text::TextCoder;
use super::write::product;

/// Coded elements for each coded byte: the least that the coder spends on a symbol is 1/2838 bit.
const ELEMENTS_PER_BYTE: usize = 32_768;
/// A deflated part grows by at most so much.
const DEFLATE_RATIO: usize = 1100;

fn damaged<T>(what: impl Into<String>) -> Result<T, PackError> {
    Err(PackError::Damaged(what.into()))
}

/// The same file with a checksum that matches, whatever it holds: for those who look for what is behind the check.
#[doc(hidden)]
pub fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let body = bytes.len().saturating_sub(4);
    [&bytes[..body], &crc(&bytes[..body]).to_le_bytes()].concat()
}

/// Reads a packed file. Damage of any kind is an error; allocations are bounded by the length of the file.
pub fn unpack(bytes: &[u8]) -> Result<Model, PackError> {
    guarded(|| unpack_unguarded(bytes)).unwrap_or_else(damaged)
}

fn unpack_unguarded(bytes: &[u8]) -> Result<Model, PackError> {
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
    let mut length =
        || read_length(&mut rest).map(|n| n as usize).ok_or_else(|| PackError::Damaged("a length is missing".into()));
    let (header, raw, count) = (length()?, length()?, length()?);
    if count > bytes.len() {
        return damaged("it counts more pieces than bytes");
    }
    let lengths = (0..count).map(|_| length()).collect::<Result<Vec<_>, _>>()?;
    let mut part = |length: usize| -> Result<&[u8], PackError> {
        let Some((part, after)) = rest.split_at_checked(length) else { return damaged("a part is cut off") };
        rest = after;
        Ok(part)
    };
    let raw = match part(raw)?.split_first() {
        None => vec![],
        Some((0, raw)) => raw.to_vec(),
        Some((1, raw)) => inflate(raw)?,
        _ => return damaged("the raw part has an unknown form"),
    };
    let pieces = lengths.into_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let coded = rest;
    let Some(mut decoder) = Decoder::new(coded) else { return damaged("the coded part is unreadable") };
    let room = ELEMENTS_PER_BYTE.saturating_mul(coded.len() + 8);
    let header = read_header(&mut decoder, header, room)?;
    let mut reader = Reader {
        raw: &raw,
        decoder,
        floats: FloatCoder::new(),
        pieces: &pieces,
        tables: BTreeMap::new(),
        left: room,
        products: vec![],
    };
    let mut model = Model { name: header.name, graph: header.graph, ..Model::default() };
    for entry in &header.tensors {
        let weight = reader.tensor(entry)?;
        model.weights.insert(entry.name.clone(), weight);
    }
    for (name, entry) in &header.activations {
        let quantizer = reader.quantizer(entry, name)?;
        model.activations.insert(name.clone(), quantizer);
    }
    for (name, entry) in std::mem::take(&mut reader.products) {
        let quantizer = product_quantizer(&model, &name, &entry)?;
        if let Some(weight) = model.weights.get_mut(&name) {
            weight.quantize(quantizer).map_err(at(&name))?;
        }
    }
    Ok(model)
}

fn read_header(decoder: &mut Decoder, length: usize, most: usize) -> Result<Header, PackError> {
    if length > most {
        return damaged("its header is impossibly long");
    }
    let mut coder = TextCoder::new();
    let text = (0..length).map(|_| coder.byte(decoder, 0)).collect::<Option<Vec<u8>>>();
    let Some(text) = text else { return damaged("the header is unreadable") };
    serde_json::from_slice(&text).map_err(|e| PackError::Damaged(format!("header: {e}")))
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

/// The quantizer whose scales are a product.
fn product_quantizer(model: &Model, name: &str, entry: &QuantizerEntry) -> Result<Quantizer, PackError> {
    let fail = || PackError::Damaged(format!("the scales of `{name}` are the product of nothing"));
    let (activation, weight) = entry.product.as_ref().ok_or_else(fail)?;
    let x = model.activations.get(activation).ok_or_else(fail)?.scales().map_err(at(name))?;
    let w = model.weights.get(weight).and_then(Weight::quantizer).ok_or_else(fail)?.scales().map_err(at(name))?;
    let scales = product(&x, &w).filter(|s| s.len() == entry.scales).ok_or_else(fail)?;
    quantizer(entry, &scales, name)
}

fn quantizer(entry: &QuantizerEntry, scales: &[f32], name: &str) -> Result<Quantizer, PackError> {
    let Some(levels) = entry.levels() else { return damaged(format!("the quantizer of `{name}` is unknown")) };
    let zeros = if entry.zero_points.is_empty() { vec![0; scales.len()] } else { entry.zero_points.clone() };
    QuantParams::new(entry.bits, levels, entry.granularity(), scales.to_vec(), zeros)
        .and_then(|p| Quantizer::new(&p))
        .map_err(at(name))
}

struct Reader<'a> {
    raw: &'a [u8],
    decoder: Decoder,
    floats: FloatCoder,
    /// Pieces of large tensors that are not read yet.
    pieces: &'a [&'a [u8]],
    /// Shared tables that were read.
    tables: BTreeMap<String, Vec<f32>>,
    /// Coded elements that the common stream can still hold.
    left: usize,
    /// ActivationQuantizers that can be made when all else is there, by tensor.
    products: Vec<(String, QuantizerEntry)>,
}

impl Reader<'_> {
    fn take(&mut self, count: usize, size: usize) -> Result<&[u8], PackError> {
        let split = count.checked_mul(size).and_then(|n| self.raw.split_at_checked(n));
        let Some((taken, rest)) = split else { return damaged("the raw part is too short") };
        self.raw = rest;
        Ok(taken)
    }

    /// Takes elements of the common stream off what it can hold.
    fn spend(&mut self, count: usize) -> Result<(), PackError> {
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => damaged("it claims more values than it holds"),
        }
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, PackError> {
        // At least one bit of each is even.
        self.spend(count.saturating_mul(1024))?;
        match self.floats.code(&mut self.decoder, &vec![0.0; count]) {
            Some(values) => Ok(values),
            None => damaged("a number is unreadable"),
        }
    }

    fn quantizer(&mut self, entry: &QuantizerEntry, name: &str) -> Result<Quantizer, PackError> {
        let scales = self.floats(entry.scales)?;
        quantizer(entry, &scales, name)
    }

    fn tensor(&mut self, entry: &TensorEntry) -> Result<Weight, PackError> {
        let name = &entry.name;
        let Some(count) = elements(&entry.shape) else {
            return damaged(format!("`{name}` has the impossible shape {:?}", entry.shape));
        };
        let scales = |g: &QuantizerEntry| g.granularity().scales(&entry.shape) != Some(g.scales as i64);
        if entry.quantizer.as_ref().is_some_and(scales) {
            return damaged(format!("the quantizer of `{name}` does not fit its shape {:?}", entry.shape));
        }
        let quantizer = match &entry.quantizer {
            Some(g) if g.product.is_some() => {
                self.products.push((name.clone(), g.clone()));
                None
            }
            Some(g) => Some(self.quantizer(g, name)?),
            None => None,
        };
        let shaped = |t: Result<Tensor, tch::TchError>| -> Result<Tensor, PackError> {
            t.and_then(|t| t.f_reshape(&entry.shape[..])).map_err(|e| at(name)(e.into()))
        };
        let mut keep = match entry.mask.and_then(|m| m.flags) {
            Some(symbols) => {
                let flags = self.indices(symbols, &entry.shape, count)?;
                Some(shaped(Tensor::f_from_slice(&flags.iter().map(|&f| f as f32).collect::<Vec<_>>()))?)
            }
            None => None,
        };
        let mut codebook = None;
        let latent = match &entry.coding {
            Coding::Raw(element) => self.raw_tensor(entry, *element, count)?,
            Coding::Floats => shaped(Tensor::f_from_slice(&self.floats(count)?))?,
            Coding::Sparse(symbols) => {
                let kept = self.indices(*symbols, &entry.shape, count)?;
                let bytes = self.take(kept.iter().filter(|k| **k != 0).count(), 4)?;
                let mut stored = bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
                let values: Vec<f32> = kept.iter().map(|&k| if k != 0 { stored.next().unwrap_or(0.0) } else { 0.0 }).collect();
                shaped(Tensor::f_from_slice(&values))?
            }
            Coding::Table(symbols) => {
                let Some(meta) = &entry.codebook else { return damaged(format!("`{name}` has a table and no codebook")) };
                let book = self.codebook(meta, *symbols, entry, count)?;
                let blank = shaped(Tensor::f_zeros([count as i64], (Kind::Float, tch::Device::Cpu)))?;
                let value = book.apply(&blank).map_err(at(name))?;
                codebook = Some(book);
                value
            }
            coding @ (Coding::IntegerTable(_) | Coding::Integers) => {
                let Some(quantizer) = &quantizer else { return damaged(format!("`{name}` has integers and no quantizer")) };
                let integers = self.integers(coding, &entry.shape, count)?;
                quantizer.dequantize(&shaped(Tensor::f_from_slice(&integers))?).map_err(at(name))?
            }
        };
        if entry.mask.is_some() && keep.is_none() {
            keep = Some(latent.f_ne(0).map_err(|e| at(name)(e.into()))?);
        }
        let mask = match (entry.mask, keep) {
            (Some(m), Some(keep)) => Some(Mask::new(&keep, m.pattern).map_err(at(name))?),
            _ => None,
        };
        let half = entry.half.then_some(if entry.brain { Half::Bfloat16 } else { Half::Float16 });
        let chain = Chain { mask, codebook, half, quantizer };
        Ok(Weight::from_parts(entry.role, latent, chain))
    }

    fn codebook(
        &mut self,
        meta: &CodebookEntry,
        symbols: Symbols,
        entry: &TensorEntry,
        count: usize,
    ) -> Result<Codebook, PackError> {
        let name = &entry.name;
        let unfit = || damaged(format!("the codebook of `{name}` does not fit its shape {:?}", entry.shape));
        let tables = match meta.axis {
            Some(axis) => entry.shape.get(axis).copied().unwrap_or(0) as usize,
            None => 1,
        };
        let first = entry.shape.first().copied().unwrap_or(1).max(1);
        if meta.dim == 0
            || tables == 0
            || !count.is_multiple_of(meta.dim)
            || (meta.dim > 1 && !(count / meta.dim).is_multiple_of(first as usize))
        {
            return unfit();
        }
        let runs = count / meta.dim;
        let rows = if meta.dim > 1 { vec![first, (runs / first as usize) as i64] } else { entry.shape.clone() };
        let Some(length) = tables.checked_mul(symbols.values).and_then(|n| n.checked_mul(meta.dim)) else { return unfit() };
        let table = match meta.shared.as_ref().and_then(|t| self.tables.get(t)) {
            Some(table) if table.len() == length => table.clone(),
            Some(_) => return unfit(),
            None => self.floats(length)?,
        };
        if let Some(shared) = &meta.shared {
            self.tables.insert(shared.clone(), table.clone());
        }
        let mut indices: Vec<i64> = self.indices(symbols, &rows, runs)?.into_iter().map(i64::from).collect();
        if let Some(axis) = meta.axis {
            let inner: usize = entry.shape[axis + 1..].iter().map(|&n| n as usize).product();
            indices.iter_mut().enumerate().for_each(|(i, v)| *v += ((i / inner.max(1)) % tables * symbols.values) as i64);
        }
        // A masked weight's centroid at zero, the first of its table, stays there.
        let zero = |t: &usize| entry.mask.is_some() && meta.dim == 1 && table.get(t * symbols.values) == Some(&0.0);
        let pinned = (0..tables).filter(zero).map(|t| t * symbols.values).collect();
        let make = || -> Result<Codebook, OpError> {
            let centroids = Tensor::f_from_slice(&table)?.f_reshape([-1, meta.dim as i64])?;
            let book = Codebook::new(&centroids, &Tensor::f_from_slice(&indices)?.f_reshape(&rows[..])?, pinned)?;
            let book = book.shared(meta.shared.clone());
            match meta.axis {
                Some(axis) => book.by_channel(axis),
                None => Ok(book),
            }
        };
        make().map_err(at(name))
    }

    fn raw_tensor(&mut self, entry: &TensorEntry, element: ElementType, count: usize) -> Result<Tensor, PackError> {
        let bytes = self.take(count, element.bytes())?;
        Tensor::f_from_data_size(bytes, &entry.shape, element.kind()).map_err(|e| at(&entry.name)(e.into()))
    }

    /// Indices below `symbols.values` of a tensor of this shape.
    fn indices(&mut self, symbols: Symbols, shape: &[i64], count: usize) -> Result<Vec<u32>, PackError> {
        if symbols.values == 0 && count > 0 {
            return damaged("a table is empty");
        }
        if symbols.values > 1 << 17 || symbols.stride > 64 * 64 {
            return damaged("a table is impossibly long");
        }
        let layout = symbols.layout(columns(shape));
        let found = if layout.is_mixed(count) {
            self.spend(count)?;
            let mut coder = MixedIndices::new(layout);
            (0..count).map(|_| coder.code(&mut self.decoder, 0)).collect::<Option<Vec<u32>>>()
        } else {
            let Some((own, rest)) = self.pieces.split_at_checked(count.div_ceil(PIECE)) else {
                return damaged("a piece is missing");
            };
            self.pieces = rest;
            let lengths = (0..own.len()).map(|i| PIECE.min(count - i * PIECE));
            if own.iter().zip(lengths).any(|(piece, n)| n > ELEMENTS_PER_BYTE * (piece.len() + 8)) {
                return damaged("a piece claims more values than it holds");
            }
            let mut all = vec![0u32; count];
            let read = all.par_chunks_mut(PIECE).zip(own).map(|(out, piece)| {
                let mut decoder = Decoder::new(piece)?;
                let mut coder = PlainIndices::new(layout);
                for place in out {
                    *place = coder.code(&mut decoder, 0)?;
                }
                Some(())
            });
            read.collect::<Option<Vec<()>>>().map(|_| all)
        };
        match found {
            Some(found) if found.iter().all(|&i| (i as usize) < symbols.values) => Ok(found),
            _ => damaged("a symbol is out of range"),
        }
    }

    fn integers(&mut self, coding: &Coding, shape: &[i64], count: usize) -> Result<Vec<i64>, PackError> {
        let mut coder = IntegerCoder::new();
        let mut next = |decoder: &mut Decoder| match coder.code(decoder, 0) {
            Some(v) => Ok(v),
            None => damaged("an integer is unreadable"),
        };
        let Coding::IntegerTable(symbols) = coding else {
            self.spend(count)?;
            return (0..count).map(|_| next(&mut self.decoder)).collect();
        };
        if symbols.values > count {
            return damaged("a table is impossibly long");
        }
        self.spend(symbols.values)?;
        let mut table = Vec::new();
        let mut previous = 0i64;
        for _ in 0..symbols.values {
            let Some(v) = previous.checked_add(next(&mut self.decoder)?) else { return damaged("an integer overflows") };
            table.push(v);
            previous = v;
        }
        if let Some(zero) = table.iter().position(|&v| v == 0) {
            table[..=zero].rotate_right(1);
        }
        Ok(self.indices(*symbols, shape, count)?.into_iter().map(|i| table[i as usize]).collect())
    }
}

/// The number of elements of a shape.
fn elements(shape: &[i64]) -> Option<usize> {
    shape.iter().try_fold(1usize, |a, &n| a.checked_mul(usize::try_from(n).ok()?))
}

fn at(name: &str) -> impl Fn(OpError) -> PackError + '_ {
    move |source| PackError::Weight { weight: name.to_string(), source }
}
