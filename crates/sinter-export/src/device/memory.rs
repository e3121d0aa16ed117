//! Where computed tensors live: each in a part of one block of memory, from the step that makes it to the last that reads it.

use sinter_estimate::{Life, place};

use super::program::Program;

/// Tensors start at multiples of this many bytes.
const ALIGNMENT: usize = 16;

/// A block of memory that tensors share over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Where each tensor starts; `None` for constants and for what nobody reads or writes.
    pub offsets: Vec<Option<usize>>,
    /// The length of the block.
    pub bytes: usize,
    /// The bytes in use while each step runs.
    pub profile: Vec<usize>,
}

/// Plans the memory by lifetime. A tensor that is another in a new shape shares its place.
pub fn plan(program: &Program) -> Memory {
    let count = program.tensors.len();
    // A reshaped tensor lives in that which it came from.
    let mut root: Vec<usize> = (0..count).collect();
    for step in &program.steps {
        if step.op.is_view() && program.tensors[step.inputs[0]].data.is_none() {
            root[step.output] = root[step.inputs[0]];
        }
    }
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; count];
    let mut touch = |tensor: usize, at: usize| {
        if program.tensors[tensor].data.is_none() {
            let life = lives[root[tensor]].get_or_insert((at, at));
            *life = (life.0.min(at), life.1.max(at));
        }
    };
    program.inputs.iter().for_each(|&t| touch(t, 0));
    for (i, step) in program.steps.iter().enumerate() {
        step.inputs.iter().chain([&step.output]).for_each(|&t| touch(t, i));
    }
    program.outputs.iter().for_each(|&t| touch(t, program.steps.len()));
    let size = |t: usize| program.tensors[t].bytes().next_multiple_of(ALIGNMENT);
    let living: Vec<(usize, Life)> =
        (0..count).filter_map(|t| lives[t].map(|(from, to)| (t, Life { bytes: size(t), from, to }))).collect();
    let (starts, bytes) = place(&living.iter().map(|(_, life)| *life).collect::<Vec<_>>());
    let mut offsets = vec![None; count];
    living.iter().zip(starts).for_each(|((t, _), at)| offsets[*t] = Some(at));
    let offsets: Vec<Option<usize>> =
        (0..count).map(|t| offsets[root[t]].filter(|_| program.tensors[t].data.is_none())).collect();
    let alive = |step: usize| living.iter().filter(|(_, l)| (l.from..=l.to).contains(&step)).map(|(_, l)| l.bytes).sum();
    Memory { offsets, bytes, profile: (0..program.steps.len()).map(alive).collect() }
}
