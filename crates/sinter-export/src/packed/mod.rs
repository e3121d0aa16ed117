//! The packed file: a model in as few bytes as its encoding chains allow.
//!
//! Layout, little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 6 | `SINTER` |
//! | 1 | version of the format, 1 |
//! | 4 | length of the header |
//! | … | header: JSON, deflated: graph, activation grids, and for every tensor its name, shape and chain |
//! | 4 | length of the raw part |
//! | … | raw part: tensors without an encoding, tables of values, scales; deflated where that helps (first byte 1, else 0) |
//! | 4 | length of the coded part |
//! | … | coded part: symbols of encoded tensors, range coded with adaptive contexts |
//! | 4 | CRC-32 of all before |
//!
//! A tensor with a chain is stored as symbols: indices into a table of its distinct values (integers of the grid, or float32). Reading
//! gives back the very same effective weights, bit for bit, with mask, codebook and grid.

mod coder;
mod layout;
mod read;
mod symbols;
mod write;

pub use read::unpack;
pub use write::{Packed, pack};

/// Why a packed file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("this is no packed Sinter model")]
    Magic,
    #[error("the packed model has format version {0}, this Sinter reads version 1: use a newer Sinter")]
    Version(u8),
    #[error("the packed model is damaged or truncated: {0}")]
    Damaged(String),
    #[error("weight `{weight}`: {source}")]
    Weight { weight: String, source: sinter_model::OpError },
    #[error("weight `{weight}` can't be packed: {reason}")]
    Unpackable { weight: String, reason: String },
}
