//! In which order the axes of a value lie in its tensor.

/// Where the elements of a value stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Layout {
    /// The tensor's axis `i` is the value's axis `order[i]`.
    Order(Vec<usize>),
    /// A value `[batch, channels * positions]` that was flattened with the channels last.
    Flat { channels: i64, positions: i64 },
}

impl Layout {
    /// As ONNX has it.
    pub fn plain(rank: usize) -> Self {
        Self::Order((0..rank).collect())
    }

    /// Batch, positions, channels.
    pub fn channels_last(rank: usize) -> Self {
        let mut order: Vec<usize> = (0..rank).collect();
        if rank > 2 {
            order[1..].rotate_left(1);
        }
        Self::Order(order)
    }

    /// The tensor's shape for a value of this shape.
    pub fn shape(&self, value: &[i64]) -> Vec<i64> {
        match self {
            Self::Order(order) => order.iter().map(|&a| value[a]).collect(),
            Self::Flat { .. } => value.to_vec(),
        }
    }

    /// Whether the elements stand in ONNX's order: axes of length 1 may be anywhere.
    pub fn is_plain(&self, value: &[i64]) -> bool {
        match self {
            Self::Order(order) => {
                let long: Vec<usize> = order.iter().copied().filter(|&a| value[a] != 1).collect();
                long.is_sorted()
            }
            Self::Flat { channels, positions } => *channels == 1 || *positions == 1,
        }
    }

    /// The tensor's axis that is the value's axis `axis`.
    pub fn position(&self, axis: usize) -> usize {
        match self {
            Self::Order(order) => order.iter().position(|&a| a == axis).unwrap_or(axis),
            Self::Flat { .. } => axis,
        }
    }

    /// The layout of a value that is this one transposed by ONNX's `perm`: its tensor is the same.
    pub fn transposed(&self, perm: &[usize]) -> Option<Self> {
        let Self::Order(order) = self else { return None };
        let moved = order.iter().map(|&a| perm.iter().position(|&p| p == a));
        moved.collect::<Option<Vec<_>>>().map(Self::Order)
    }

    /// The layout of a value without some axes.
    pub fn without(&self, axes: &[usize]) -> Option<Self> {
        let Self::Order(order) = self else { return None };
        let left = order.iter().filter(|a| !axes.contains(a));
        Some(Self::Order(left.map(|&a| a - axes.iter().filter(|&&gone| gone < a).count()).collect()))
    }
}

/// The order of axes that takes a tensor of one layout to another, both over the same value.
pub(super) fn reorder(from: &[usize], to: &[usize]) -> Vec<usize> {
    to.iter().map(|a| from.iter().position(|b| b == a).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposition_relabels() {
        let plain = Layout::plain(4);
        // An image that comes channels last and is turned to channels first is stored channels last already.
        assert_eq!(plain.transposed(&[0, 3, 1, 2]), Some(Layout::channels_last(4)));
        assert_eq!(Layout::channels_last(4).transposed(&[0, 2, 3, 1]), Some(plain));
    }

    #[test]
    fn reduced_axes_close_ranks() {
        assert_eq!(Layout::channels_last(4).without(&[2, 3]), Some(Layout::plain(2)));
        assert_eq!(Layout::channels_last(4).without(&[1]), Some(Layout::plain(3)));
        assert_eq!(reorder(&[0, 2, 3, 1], &[0, 1, 2, 3]), [0, 3, 1, 2]);
    }

    #[test]
    fn one_position_is_in_any_order() {
        assert!(Layout::channels_last(4).is_plain(&[1, 64, 1, 1]));
        assert!(!Layout::channels_last(4).is_plain(&[1, 64, 2, 1]));
        assert!(Layout::channels_last(4).is_plain(&[1, 1, 28, 28]));
    }
}
