//! Tables of a flatbuffer, field by field, as TensorFlow's `schema.fbs` (version 3) numbers them.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Push, PushAlignment, VOffsetT, Vector, WIPOffset};

use super::activation::Activation;
use super::window::Window2d;

/// Constants start at multiples of this many bytes, so that kernels read them in place.
pub(crate) const ALIGNMENT: usize = 16;

/// A flatbuffer under construction.
pub(crate) type Builder<'a> = FlatBufferBuilder<'a>;
/// A table in it.
pub(crate) type Table = WIPOffset<flatbuffers::TableFinishedWIPOffset>;
/// A vector of tables in it.
pub(crate) type Tables<'a> = WIPOffset<Vector<'a, ForwardsUOffset<flatbuffers::TableFinishedWIPOffset>>>;

/// Nothing, at a multiple of [`ALIGNMENT`]: what is pushed once aligns the whole file.
pub(crate) struct Aligned;

impl Push for Aligned {
    type Output = ();

    unsafe fn push(&self, _dst: &mut [u8], _written: usize) {}

    fn size() -> usize {
        0
    }

    fn alignment() -> PushAlignment {
        PushAlignment::new(ALIGNMENT)
    }
}

/// The place of a field in its table.
pub(crate) fn slot(field: VOffsetT) -> VOffsetT {
    4 + 2 * field
}

/// Sets a field that points to something.
pub(crate) fn offset<T>(b: &mut Builder, field: VOffsetT, value: WIPOffset<T>) {
    b.push_slot_always(slot(field), value);
}

/// A table with the fields that `fill` sets.
pub(crate) fn table(b: &mut Builder, fill: impl FnOnce(&mut Builder)) -> Table {
    let start = b.start_table();
    fill(b);
    b.end_table(start)
}

/// Padding and strides of a convolution or pool: its first three fields.
pub(crate) fn strides(b: &mut Builder, window: &Window2d) {
    b.push_slot::<i8>(slot(0), i8::from(!window.same), 0);
    b.push_slot::<i32>(slot(1), window.stride[1] as i32, 0);
    b.push_slot::<i32>(slot(2), window.stride[0] as i32, 0);
}

/// The activation that runs as one with an operator.
pub(crate) fn fused(b: &mut Builder, field: VOffsetT, activation: Activation) {
    let code = match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::ReluN1To1 => 2,
        Activation::Relu6 => 3,
    };
    b.push_slot::<i8>(slot(field), code, 0);
}
