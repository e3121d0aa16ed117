//! Model to bytes.

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use sinter_model::{ElementType, Grid, GridShape, Model, OpError, Weight, to_f32s, to_i64s};
use tch::{Kind, Tensor};

use super::PackError;
use super::coder::Encoder;
use super::layout::{Coding, GridEntry, Header, MAGIC, MaskEntry, TensorEntry, VERSION, crc, level_code};
use super::symbols::{IndexCoder, IntegerCoder};

/// Tables longer than this are not worth their place: the integers are coded themselves.
const LONGEST_TABLE: usize = 4096;

/// A packed file in memory.
#[derive(Debug)]
pub struct Packed {
    pub bytes: Vec<u8>,
    /// What each tensor takes in it (values, tables and scales), in bytes, by name.
    pub tensors: BTreeMap<String, f64>,
}

/// Packs a model.
pub fn pack(model: &Model) -> Result<Packed, PackError> {
    let mut sizes = BTreeMap::new();
    let mut writer = Writer { raw: Vec::new(), coder: Encoder::default() };
    let mut tensors = Vec::new();
    for (name, weight) in &model.weights {
        let (raw, bits) = (writer.raw.len(), writer.coder.bits());
        let entry = writer.tensor(name, weight).map_err(|source| PackError::Weight { weight: name.clone(), source })?;
        tensors.push(entry.ok_or_else(|| {
            let reason = format!("elements of kind {:?} have no place in the format", weight.latent().kind());
            PackError::Unpackable { weight: name.clone(), reason }
        })?);
        sizes.insert(name.clone(), (writer.raw.len() - raw) as f64 + (writer.coder.bits() - bits) / 8.0);
    }
    let mut activations = Vec::new();
    for (name, grid) in &model.activations {
        let entry = writer.grid(grid).map_err(|source| PackError::Weight { weight: name.clone(), source })?;
        activations.push((name.clone(), entry));
    }
    let header = Header { name: model.name.clone(), graph: model.graph.clone(), tensors, activations };
    let text = serde_json::to_vec(&header).map_err(|e| PackError::Damaged(e.to_string()))?;
    let mut bytes = MAGIC.to_vec();
    bytes.push(VERSION);
    let deflated = deflate(&writer.raw);
    let raw = if deflated.len() < writer.raw.len() { [&[1], &deflated[..]].concat() } else { [&[0], &writer.raw[..]].concat() };
    for part in [deflate(&text), raw, writer.coder.finish()] {
        let length = u32::try_from(part.len()).map_err(|_| PackError::Damaged("a part is over 4 GiB".into()))?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(part);
    }
    bytes.extend(crc(&bytes).to_le_bytes());
    Ok(Packed { bytes, tensors: sizes })
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing into memory can't fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

struct Writer {
    raw: Vec<u8>,
    coder: Encoder,
}

impl Writer {
    fn floats(&mut self, values: &[f32]) {
        self.raw.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    fn grid(&mut self, grid: &Grid) -> Result<GridEntry, OpError> {
        let scales = grid.scales()?;
        self.floats(&scales);
        let zero_points = grid.zero_points()?;
        let axis = match grid.shape() {
            GridShape::Tensor => None,
            GridShape::Channel(axis) => Some(axis),
        };
        Ok(GridEntry {
            bits: grid.bits(),
            levels: level_code(grid.levels()),
            axis,
            scales: scales.len(),
            zero_points: if zero_points.iter().all(|&z| z == 0) { vec![] } else { zero_points },
        })
    }

    /// Stores one tensor; `None` when its element type has no place in the format.
    fn tensor(&mut self, name: &str, weight: &Weight) -> Result<Option<TensorEntry>, OpError> {
        let value = weight.effective()?.f_detach()?.f_contiguous()?;
        let grid = weight.grid().map(|g| self.grid(g)).transpose()?;
        let mask = weight.mask().map(|m| MaskEntry { nm: m.pattern() });
        let codebook = weight.codebook().is_some();
        let coding = match (weight.grid(), weight.codebook(), weight.mask()) {
            (Some(grid), _, _) => self.integers(&to_i64s(&grid.quantize(&value)?)?, codebook),
            (None, Some(codebook), _) => {
                let (table, indices) = codebook.used()?;
                self.floats(&table);
                let zero = table.iter().position(|&v| v == 0.0).map(|z| z as u32);
                self.indices(&indices, table.len(), zero);
                Coding::Table(table.len())
            }
            (None, None, Some(_)) => {
                let values = to_f32s(&value)?;
                let mut flags = IndexCoder::new(2, Some(0));
                values.iter().for_each(|&v| {
                    flags.code(&mut self.coder, if v == 0.0 { 0 } else { 1 });
                });
                let kept: Vec<f32> = values.into_iter().filter(|&v| v != 0.0).collect();
                self.floats(&kept);
                Coding::Sparse
            }
            _ => {
                let Some(element) = ElementType::from_kind(value.kind()) else { return Ok(None) };
                self.raw.extend(bytes_of(&value, element)?);
                Coding::Raw(element)
            }
        };
        Ok(Some(TensorEntry { name: name.to_string(), role: weight.role, shape: weight.size(), coding, grid, mask, codebook }))
    }

    fn indices(&mut self, indices: &[u32], count: usize, zero: Option<u32>) {
        let mut coder = IndexCoder::new(count, zero);
        indices.iter().for_each(|&i| {
            coder.code(&mut self.coder, i);
        });
    }

    /// Integers by table where they are few or a codebook, else as they are.
    fn integers(&mut self, values: &[i64], codebook: bool) -> Coding {
        let mut table = values.to_vec();
        table.sort_unstable();
        table.dedup();
        let mut coder = IntegerCoder::new();
        if !codebook && (table.len() > LONGEST_TABLE || table.len() * 4 > values.len()) {
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
        let zero = table.binary_search(&0).ok().map(|z| z as u32);
        let indices: Vec<u32> = values.iter().map(|v| table.binary_search(v).unwrap_or(0) as u32).collect();
        self.indices(&indices, table.len(), zero);
        Coding::IntegerTable(table.len())
    }
}

fn bytes_of(value: &Tensor, element: ElementType) -> Result<Vec<u8>, OpError> {
    let value = if value.kind() == Kind::Bool { value.f_to_kind(Kind::Uint8)? } else { value.shallow_clone() };
    let mut bytes = vec![0; value.numel() * element.bytes()];
    if !bytes.is_empty() {
        value.f_copy_data_u8(&mut bytes, value.numel())?;
    }
    Ok(bytes)
}
