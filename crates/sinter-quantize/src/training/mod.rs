//! What happens while a model trains with quantization simulated.

pub(crate) mod following;
pub(crate) mod normalize;
