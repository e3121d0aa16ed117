//! The operators, one file a family, and the table that finds them by ONNX name.

mod binary;
mod conv;
mod detection;
mod linear;
mod logic;
mod movement;
mod norm;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod resize;
mod select;
mod shape;
mod signal;
mod softmax;
mod unary;

use std::sync::Arc;

pub use pool::{ResolvedWindow, Window};

use crate::attributes::Attributes;
use crate::error::{OpResult, invalid};
use crate::op::Operator;

type Parse = fn(&str, &Attributes) -> OpResult<Option<Arc<dyn Operator>>>;

/// Each family answers for its own operator types, and with `None` for all others.
const FAMILIES: &[(&[&str], Parse)] = &[
    (unary::KINDS, unary::parse),
    (binary::KINDS, binary::parse),
    (logic::KINDS, logic::parse),
    (conv::KINDS, conv::parse),
    (linear::KINDS, linear::parse),
    (norm::KINDS, norm::parse),
    (pool::KINDS, pool::parse),
    (reduce::KINDS, reduce::parse),
    (softmax::KINDS, softmax::parse),
    (shape::KINDS, shape::parse),
    (movement::KINDS, movement::parse),
    (select::KINDS, select::parse),
    (resize::KINDS, resize::parse),
    (recurrent::KINDS, recurrent::parse),
    (quant::KINDS, quant::parse),
    (signal::KINDS, signal::parse),
    (detection::KINDS, detection::parse),
];

/// The operator of an ONNX type with its attributes. Errors when the type is unknown or an attribute is not supported.
pub fn parse(kind: &str, attributes: &Attributes) -> OpResult<Arc<dyn Operator>> {
    for (_, family) in FAMILIES {
        if let Some(op) = family(kind, attributes)? {
            return Ok(op);
        }
    }
    invalid!("operator `{kind}` is not supported")
}

/// The ONNX operator types that Sinter runs, in alphabetical order.
pub fn supported() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = FAMILIES.iter().flat_map(|(kinds, _)| kinds.iter().copied()).collect();
    kinds.sort_unstable();
    kinds
}

/// The entry of a family's table with this name, for operators that carry their own name.
fn own(kinds: &[&'static str], kind: &str) -> Option<&'static str> {
    kinds.iter().find(|k| **k == kind).copied()
}

/// An axis counted from the end when negative. Errors outside the rank.
fn wrap_axis(axis: i64, rank: usize) -> OpResult<i64> {
    let rank = rank as i64;
    let wrapped = if axis < 0 { axis + rank } else { axis };
    if !(0..rank).contains(&wrapped) {
        invalid!("axis {axis} is outside a tensor of rank {rank}");
    }
    Ok(wrapped)
}

#[cfg(test)]
fn direction(kind: &str) -> crate::Attribute {
    crate::Attribute::String(if kind == "BitShift" { "LEFT" } else { "forward" }.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_listed_kind_parses() {
        for kind in super::supported() {
            let attributes = super::Attributes::new()
                .int("to", 1)
                .int("hidden_size", 4)
                .int("axis", 0)
                .int("blocksize", 2)
                .int("num_groups", 1)
                .ints("kernel_shape", &[2, 2])
                .with("direction", super::direction(kind))
                .int("size", 3);
            // Any attribute of a constant is its value.
            let attributes = if kind == "Constant" { super::Attributes::new().int("value_int", 1) } else { attributes };
            let result = super::parse(kind, &attributes);
            if let Err(e) = result {
                assert!(!e.to_string().contains("is not supported"), "{kind}: {e}");
            }
        }
    }
}
