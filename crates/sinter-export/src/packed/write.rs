//! Model to bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rayon::prelude::*;
use sinter_model::{Codebook, ElementType, Granularity, Half, Model, OpError, Quantizer, Weight, to_bytes, to_f32s, to_i64s};

use super::PackError;
use super::coder::Encoder;
use super::layout::{
    CodebookEntry, Coding, Header, MAGIC, MaskEntry, QuantizerEntry, Symbols, TensorEntry, VERSION, columns, crc, level_code,
    write_length,
};
use super::numbers::{FloatCoder, IntegerCoder};
use super::symbols::{Layout, MixedIndices, PIECE, PlainIndices};
use super::text::TextCoder;

/// Tables longer than this are not worth their place: the integers are coded themselves.
const LONGEST_TABLE: usize = 4096;
/// Bytes of raw tensors that are deflated thoroughly.
const THOROUGH: usize = 16 << 20;
/// Index 0 gets a flag of its own from this share on.
const COMMON: f64 = 0.4;

/// A packed file in memory.
#[derive(Debug)]
pub struct Packed {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What each tensor takes in it (values, tables and scales), in bytes, by name.
    pub tensors: BTreeMap<String, f64>,
    /// What the header takes: graph, names, shapes, chains.
    pub header: f64,
}

/// Packs a model.
pub fn pack(model: &Model) -> Result<Packed, PackError> {
    // The header is known only when all tensors are coded, but comes first in the stream: so they are coded twice.
    let draft = Writer::new(model).all()?;
    let mut writer = Writer::new(model);
    let mut text = TextCoder::new();
    let header = serde_json::to_vec(&draft.header).map_err(|e| PackError::Damaged(e.to_string()))?;
    header.iter().for_each(|&b| {
        text.byte(&mut writer.coder, b);
    });
    let header_bytes = writer.coder.bits() / 8.0;
    let Draft { sizes, raw, pieces, coder, .. } = writer.all()?;
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    write_length(&mut bytes, header.len() as u64);
    let deflated = deflate(&raw);
    let raw = if deflated.len() < raw.len() {
        [&[1], &deflated[..]].concat()
    } else if raw.is_empty() {
        raw
    } else {
        [&[0], &raw[..]].concat()
    };
    write_length(&mut bytes, raw.len() as u64);
    write_length(&mut bytes, pieces.len() as u64);
    pieces.iter().for_each(|p| write_length(&mut bytes, p.len() as u64));
    bytes.extend(raw);
    pieces.into_iter().for_each(|p| bytes.extend(p));
    bytes.extend(coder.finish());
    bytes.extend(crc(&bytes).to_le_bytes());
    Ok(Packed { bytes, tensors: sizes, header: header_bytes })
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    // What floats have to give lies in their exponents, which the fast way finds too; the thorough one takes minutes for a hundred million of them.
    let level = if bytes.len() > THOROUGH { Compression::fast() } else { Compression::best() };
    let mut encoder = DeflateEncoder::new(Vec::new(), level);
    // Writing into memory can't fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// All that a file holds, before it is put together.
struct Draft {
    header: Header,
    sizes: BTreeMap<String, f64>,
    raw: Vec<u8>,
    pieces: Vec<Vec<u8>>,
    coder: Encoder,
}

struct Writer<'a> {
    model: &'a Model,
    raw: Vec<u8>,
    coder: Encoder,
    floats: FloatCoder,
    /// Pieces of large tensors, each a stream of its own.
    pieces: Vec<Vec<u8>>,
    /// Shared tables that are written already.
    tables: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    fn new(model: &'a Model) -> Self {
        let (raw, coder, floats) = (Vec::new(), Encoder::default(), FloatCoder::new());
        Self { model, raw, coder, floats, pieces: Vec::new(), tables: BTreeSet::new() }
    }

    fn written(&self) -> f64 {
        (self.raw.len() + self.pieces.iter().map(Vec::len).sum::<usize>()) as f64 + self.coder.bits() / 8.0
    }

    fn all(mut self) -> Result<Draft, PackError> {
        let products = self.products();
        let mut sizes = BTreeMap::new();
        let (mut tensors, mut activations) = (Vec::new(), Vec::new());
        let fail = |name: &String| {
            let weight = name.clone();
            move |source| PackError::Weight { weight, source }
        };
        for (name, weight) in &self.model.weights {
            let before = self.written();
            let entry = self.tensor(name, weight, products.get(name)).map_err(fail(name))?;
            tensors.push(entry.ok_or_else(|| {
                let reason = format!("elements of kind {:?} have no place in the format", weight.latent().kind());
                PackError::Unpackable { weight: name.clone(), reason }
            })?);
            sizes.insert(name.clone(), self.written() - before);
        }
        for (name, quantizer) in &self.model.activations {
            activations.push((name.clone(), self.quantizer(quantizer, None).map_err(fail(name))?));
        }
        let header = Header { name: self.model.name.clone(), graph: self.model.graph.clone(), tensors, activations };
        Ok(Draft { header, sizes, raw: self.raw, pieces: self.pieces, coder: self.coder })
    }

    /// The biases whose scales are the product of two others, by name: the activation and the weight.
    fn products(&self) -> BTreeMap<String, (String, String)> {
        let mut products = BTreeMap::new();
        for layer in self.model.layers() {
            let input = &self.model.graph.nodes[layer.node].inputs[0];
            let Some(bias) = layer.bias else { continue };
            let scales = |quantizer: Option<&Quantizer>| quantizer.and_then(|g| g.scales().ok());
            let of = |name: &String| scales(self.model.weights.get(name).and_then(Weight::quantizer));
            let (Some(x), Some(w), Some(b)) = (scales(self.model.activations.get(input)), of(&layer.weight), of(&bias)) else {
                continue;
            };
            if product(&x, &w).is_some_and(|p| p == b) {
                products.insert(bias, (input.clone(), layer.weight));
            }
        }
        products
    }

    fn quantizer(&mut self, quantizer: &Quantizer, product: Option<&(String, String)>) -> Result<QuantizerEntry, OpError> {
        let scales = quantizer.scales()?;
        if product.is_none() {
            self.floats.code(&mut self.coder, &scales);
        }
        let zero_points = quantizer.zero_points()?;
        let (axis, group) = match quantizer.granularity() {
            Granularity::Tensor => (None, None),
            Granularity::Channel(axis) => (Some(axis), None),
            Granularity::Group { axis, size } => (Some(axis), Some(size)),
        };
        Ok(QuantizerEntry {
            bits: quantizer.bits(),
            levels: level_code(quantizer.levels()),
            axis,
            group,
            scales: scales.len(),
            zero_points: if zero_points.iter().all(|&z| z == 0) { vec![] } else { zero_points },
            product: product.cloned(),
        })
    }

    /// Stores one tensor; `None` when its element type has no place in the format.
    fn tensor(
        &mut self,
        name: &str,
        weight: &Weight,
        product: Option<&(String, String)>,
    ) -> Result<Option<TensorEntry>, OpError> {
        let value = weight.effective()?.f_detach()?.f_contiguous()?;
        let shape = weight.size();
        let quantizer = weight.quantizer().map(|g| self.quantizer(g, product)).transpose()?;
        let mut mask = weight.mask().map(|m| MaskEntry { pattern: m.pattern(), flags: None });
        let mut codebook = None;
        let coding = match (weight.codebook(), weight.quantizer(), weight.mask()) {
            (Some(book), ..) => {
                if let (Some(mask), Some(entry), true) = (weight.mask(), &mut mask, book.dim() > 1) {
                    let keep: Vec<u32> = to_i64s(mask.keep())?.into_iter().map(|k| k as u32).collect();
                    entry.flags = Some(self.indices(&keep, 2, &shape));
                }
                let (entry, symbols) = self.codebook(book, &shape)?;
                codebook = Some(entry);
                Coding::Table(symbols)
            }
            // Sixteen bits tell the integers of a wide quantizer.
            (None, Some(quantizer), _) if weight.half().is_none() => {
                self.integers(&to_i64s(&quantizer.quantize(&value)?)?, &shape)
            }
            (None, _, None) if weight.half().is_some() => {
                let before = match weight.half() {
                    Some(half) => sinter_model::round_half(&weight.latent().f_detach()?, half)?,
                    None => weight.latent().f_detach()?,
                };
                self.floats.code(&mut self.coder, &to_f32s(&before)?);
                Coding::Floats
            }
            (None, _, Some(mask)) => {
                // A quantizer over float16 values is applied again on reading.
                let values = match weight.half() {
                    Some(half) => to_f32s(&sinter_model::round_half(&mask.apply(&weight.latent().f_detach()?)?, half)?)?,
                    None => to_f32s(&value)?,
                };
                let flags: Vec<u32> = values.iter().map(|&v| (v != 0.0) as u32).collect();
                let symbols = self.indices(&flags, 2, &shape);
                self.raw.extend(values.iter().filter(|v| **v != 0.0).flat_map(|v| v.to_le_bytes()));
                Coding::Sparse(symbols)
            }
            _ => {
                let Some(element) = ElementType::from_kind(value.kind()) else { return Ok(None) };
                self.raw.extend(to_bytes(&value)?);
                Coding::Raw(element)
            }
        };
        let (half, brain) = (weight.half().is_some(), weight.half() == Some(Half::Bfloat16));
        Ok(Some(TensorEntry { name: name.to_string(), role: weight.role, shape, coding, quantizer, mask, codebook, half, brain }))
    }

    /// A codebook's table, unless it is a shared one that is written already, and its indices. In every table a centroid at zero comes
    /// first.
    fn codebook(&mut self, book: &Codebook, shape: &[i64]) -> Result<(CodebookEntry, Symbols), OpError> {
        let entry = CodebookEntry { dim: book.dim(), axis: book.axis(), shared: book.shared_name().map(String::from) };
        let whole = entry.axis.is_some() || entry.shared.is_some();
        let (table, indices) = if whole { book.whole()? } else { book.used()? };
        let tables = book.tables();
        let k = table.len() / book.dim() / tables;
        let order: Vec<Vec<usize>> = (0..tables)
            .map(|t| {
                let row = |i: usize| &table[(t * k + i) * book.dim()..(t * k + i + 1) * book.dim()];
                let zero = (0..k).find(|&i| row(i).iter().all(|&v| v == 0.0));
                zero.into_iter().chain((0..k).filter(|i| Some(*i) != zero)).collect()
            })
            .collect();
        let mut place = vec![0u32; tables * k];
        for (t, order) in order.iter().enumerate() {
            order.iter().enumerate().for_each(|(new, &old)| place[t * k + old] = new as u32);
        }
        if entry.shared.as_ref().is_none_or(|name| self.tables.insert(name.clone())) {
            let rows = order.iter().enumerate().flat_map(|(t, order)| order.iter().map(move |&old| t * k + old));
            let sorted: Vec<f32> = rows.flat_map(|r| table[r * book.dim()..(r + 1) * book.dim()].to_vec()).collect();
            self.floats.code(&mut self.coder, &sorted);
        }
        let local: Vec<u32> = indices.iter().map(|&i| place[i as usize]).collect();
        let rows = if book.dim() > 1 { book.indices().size() } else { shape.to_vec() };
        Ok((entry, self.indices(&local, k, &rows)))
    }

    /// Codes indices below `values` of a tensor of this shape.
    fn indices(&mut self, indices: &[u32], values: usize, shape: &[i64]) -> Symbols {
        let zeros = indices.iter().filter(|i| **i == 0).count() as f64 >= COMMON * indices.len() as f64;
        let columns = columns(shape);
        let mut symbols = Symbols { values, zeros, stride: 0 };
        if !symbols.layout(columns).is_mixed(indices.len()) {
            let layout = symbols.layout(columns);
            let pieces: Vec<Vec<u8>> = indices.par_chunks(PIECE).map(|piece| plain(piece, layout)).collect();
            self.pieces.extend(pieces);
            return symbols;
        }
        // Columns resemble those one kernel further, or one row of an image further: what helps is tried.
        if zeros {
            let kernel: usize = shape.iter().skip(2).map(|&n| n as usize).product();
            let stride = if kernel > 1 { kernel } else { likeness(indices, columns) };
            let with = Symbols { stride, ..symbols };
            if stride > 1 && cost(indices, with.layout(columns)) < cost(indices, symbols.layout(columns)) {
                symbols = with;
            }
        }
        let mut coder = MixedIndices::new(symbols.layout(columns));
        indices.iter().for_each(|&i| {
            coder.code(&mut self.coder, i);
        });
        symbols
    }

    /// Integers by table where they are few, else as they are.
    fn integers(&mut self, values: &[i64], shape: &[i64]) -> Coding {
        let mut table = values.to_vec();
        table.sort_unstable();
        table.dedup();
        let mut coder = IntegerCoder::new();
        if table.len() > LONGEST_TABLE || table.len() * 4 > values.len() {
            values.iter().for_each(|&v| {
                coder.code(&mut self.coder, v);
            });
            return Coding::Integers;
        }
        let mut previous = 0;
        for &v in &table {
            coder.code(&mut self.coder, v - previous);
            previous = v;
        }
        let zero = table.binary_search(&0).ok();
        let place = |i: usize| match zero {
            Some(z) if i == z => 0,
            Some(z) if i < z => i as u32 + 1,
            _ => i as u32,
        };
        let indices: Vec<u32> = values.iter().map(|v| place(table.binary_search(v).unwrap_or(0))).collect();
        Coding::IntegerTable(self.indices(&indices, table.len(), shape))
    }
}

/// The products of an activation's scale and a weight's; `None` where the activation has several.
pub(super) fn product(activation: &[f32], weight: &[f32]) -> Option<Vec<f32>> {
    let [x] = activation else { return None };
    Some(weight.iter().map(|w| x * w).collect())
}

fn plain(indices: &[u32], layout: Layout) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut coder = PlainIndices::new(layout);
    indices.iter().for_each(|&i| {
        coder.code(&mut encoder, i);
    });
    encoder.finish()
}

/// What indices cost in a layout, in bits.
fn cost(indices: &[u32], layout: Layout) -> f64 {
    let mut encoder = Encoder::default();
    let mut coder = MixedIndices::new(layout);
    indices.iter().for_each(|&i| {
        coder.code(&mut encoder, i);
    });
    encoder.bits()
}

/// The distance, 2 to 64, at which columns resemble each other most in how many zeros they hold; 0 if none does.
fn likeness(indices: &[u32], columns: usize) -> usize {
    let mut counts = vec![0f64; columns];
    indices.iter().enumerate().filter(|(_, i)| **i != 0).for_each(|(at, _)| counts[at % columns] += 1.0);
    let mean = counts.iter().sum::<f64>() / columns.max(1) as f64;
    let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / columns.max(1) as f64;
    let alike = |s: usize| {
        let pairs = counts.iter().zip(&counts[s..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / (columns - s) as f64 / variance.max(1e-12)
    };
    let best = (2..=64.min(columns.saturating_sub(1) / 2)).map(|s| (alike(s), s)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(alike, _)| *alike > 0.2).map_or(0, |(_, s)| s)
}
