//! How much memory one thing that a file asks for may take. Sizes that come from outside are multiplied here, in checked arithmetic, before
//! any memory is taken.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::units::Bytes;

/// What is allowed unless somebody says otherwise.
const DEFAULT: Bytes = Bytes(8 << 30);

static LIMIT: AtomicU64 = AtomicU64::new(DEFAULT.0);

/// Why a size from outside is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A dimension below zero.
    #[error("a dimension of {shape:?} is negative")]
    Negative {
        /// The shape.
        shape: Vec<i64>,
    },
    /// More than the limit, or more than can be counted.
    #[error("shape {shape:?} would take {}, more than the limit of {limit}: raise it with --memory where that is meant", bytes_text(.bytes))]
    Bytes {
        /// The shape.
        shape: Vec<i64>,
        /// How much it would be; `None` beyond what 64 bits count.
        bytes: Option<u64>,
        /// The limit.
        limit: Bytes,
    },
}

fn bytes_text(bytes: &Option<u64>) -> String {
    bytes.map_or_else(|| "more bytes than can be counted".to_string(), |b| Bytes(b).to_string())
}

/// Sets the most that one tensor, file or sample may take. Default: 8 GiB.
pub fn set_memory_limit(limit: Bytes) {
    LIMIT.store(limit.0, Ordering::Relaxed);
}

/// The most that one tensor, file or sample may take.
pub fn memory_limit() -> Bytes {
    Bytes(LIMIT.load(Ordering::Relaxed))
}

/// The number of elements of a shape, each of `size` bytes. Errors where a dimension is negative, or where all would take more than the limit.
pub fn elements(shape: &[i64], size: u64) -> Result<usize, TooLarge> {
    if shape.iter().any(|d| *d < 0) {
        return Err(TooLarge::Negative { shape: shape.to_vec() });
    }
    let limit = memory_limit();
    // Nothing is in a shape with a zero, however large its other dimensions.
    let count = if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1u64, |all, d| all.checked_mul(*d as u64)) };
    let bytes = count.and_then(|c| c.checked_mul(size.max(1)));
    match (count, bytes) {
        (Some(count), Some(bytes)) if bytes <= limit.0 && usize::try_from(count).is_ok() => Ok(count as usize),
        _ => Err(TooLarge::Bytes { shape: shape.to_vec(), bytes, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_before_memory_is_taken() {
        assert_eq!(elements(&[2, 3, 4], 4), Ok(24));
        assert_eq!(elements(&[], 4), Ok(1));
        assert_eq!(elements(&[i64::MAX, 0, i64::MAX], 4), Ok(0));
        assert!(matches!(elements(&[2, -1], 4), Err(TooLarge::Negative { .. })));
        assert!(matches!(elements(&[i64::MAX, i64::MAX], 4), Err(TooLarge::Bytes { bytes: None, .. })));
        let said = elements(&[1 << 40], 4).unwrap_err().to_string();
        assert!(said.contains("4096.00 GiB") && said.contains("--memory"), "{said}");
    }
}
