//! Where computed tensors live: each in a part of one block of memory, from the step that makes it to the last that reads it.

use super::{Op, Program};

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

/// Plans the memory: largest tensor first, each at the lowest place that is free for its whole life (Pisarchyk and Lee, 2020, greedy by
/// size). A tensor that is another in a new shape shares its place.
pub fn plan(program: &Program) -> Memory {
    let count = program.tensors.len();
    // A reshaped tensor lives in that which it came from.
    let mut root: Vec<usize> = (0..count).collect();
    for step in &program.steps {
        if matches!(step.op, Op::Reshape { .. }) && program.tensors[step.inputs[0]].data.is_none() {
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
    let mut waiting: Vec<usize> = (0..count).filter(|&t| lives[t].is_some()).collect();
    waiting.sort_by_key(|&t| (std::cmp::Reverse(size(t)), t));
    let mut placed: Vec<(usize, usize)> = Vec::new();
    for tensor in waiting {
        let life = |t: usize| lives[t].unwrap_or_default();
        let meets = |other: usize| life(other).0 <= life(tensor).1 && life(tensor).0 <= life(other).1;
        let mut taken: Vec<(usize, usize)> =
            placed.iter().filter(|(t, _)| meets(*t)).map(|&(t, at)| (at, at + size(t))).collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if from >= at + size(tensor) {
                break;
            }
            at = at.max(to);
        }
        placed.push((tensor, at));
    }
    let mut offsets = vec![None; count];
    placed.iter().for_each(|&(t, at)| offsets[t] = Some(at));
    let offsets: Vec<Option<usize>> =
        (0..count).map(|t| offsets[root[t]].filter(|_| program.tensors[t].data.is_none())).collect();
    let alive = |step: usize| {
        let here = placed.iter().filter(|(t, _)| lives[*t].is_some_and(|(from, to)| (from..=to).contains(&step)));
        here.map(|&(t, _)| size(t)).sum()
    };
    let bytes = placed.iter().map(|&(t, at)| at + size(t)).max().unwrap_or(0);
    Memory { offsets, bytes, profile: (0..program.steps.len()).map(alive).collect() }
}
