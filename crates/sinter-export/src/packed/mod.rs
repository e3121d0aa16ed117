//! The packed file: a model in as few bytes as its encoding chains allow.
//!
//! Layout; a length has seven bits a byte, the lowest first, and the eighth bit says that more follow:
//!
//! | bytes | what |
//! |---|---|
//! | 6 | `SINTER` |
//! | 1 | version of the format, 2 |
//! | length | of the header's text |
//! | length | of the raw part |
//! | length, lengths | the number of pieces, and the length of each |
//! | … | raw part: elements of tensors without an encoding, and kept weights of sparse float tensors, little-endian; first byte 1: deflated, 0: as they are |
//! | … | the pieces, one after the other: symbols of large tensors |
//! | … | the common stream: the header's text, then what is left of the tensors in the order of their names: scales, tables, symbols |
//! | 4 | CRC-32 of all before, little-endian |
//!
//! Pieces and common stream are range coded, bit by bit, with adaptive probabilities. The header is JSON: the graph, and for every tensor
//! its name, shape and chain; its coder has read a typical header before (`primer.txt`), so topology costs little more than what is its
//! own. A tensor with a chain is stored as symbols: indices into a table of centroids (16 bits each) or of quantizer integers. Symbols of
//! small tensors are coded in contexts of their row, their column and its neighbours, mixed by how well each predicts; those of large
//! ones in fewer contexts and in pieces that are read in parallel. Scales that are the product of two others are not stored.
//!
//! Reading gives back the very same effective weights, bit for bit, with mask, codebook and quantizer.

mod coder;
mod layout;
mod mixing;
mod numbers;
mod read;
mod symbols;
mod text;
mod write;

pub use read::{unpack, with_checksum};
pub use write::{Packed, pack};

/// Why a packed file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It does not begin as one.
    #[error("this is no packed Sinter model")]
    Magic,
    /// It is of another version.
    #[error("the packed model has format version {0}, this Sinter reads version 2: use the Sinter that wrote it")]
    Version(u8),
    /// It is not what was written.
    #[error("the packed model is damaged or truncated: {0}")]
    Damaged(String),
    /// A weight could not be read or made.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// The weight.
        weight: String,
        /// What went wrong.
        source: sinter_model::OpError,
    },
    /// A weight has what the format lacks.
    #[error("weight `{weight}` can't be packed: {reason}")]
    Unpackable {
        /// The weight.
        weight: String,
        /// What is wrong.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::zoo::ZooModel;

    #[test]
    fn topology_costs_little() {
        for (zoo, most) in [(ZooModel::Lenet300100, 260.0), (ZooModel::Lenet5, 260.0), (ZooModel::Resnet8, 900.0)] {
            let model = zoo.build(&zoo.default_input(), 10, 1).unwrap();
            let header = pack(&model).unwrap().header;
            assert!(header < most, "{}: {header} bytes", zoo.name());
        }
    }
}
