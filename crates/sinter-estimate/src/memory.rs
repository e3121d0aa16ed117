//! Memory on a device: what activations need at most, planned by lifetime, and what weights take in flash.

use std::collections::BTreeMap;

use sinter_exec::ExecError;
use sinter_model::{ElementType, Model, Role};

/// A buffer: its length in bytes, and the first and the last step that needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its size.
    pub bytes: usize,
    /// The first step at which it is alive.
    pub from: usize,
    /// The last.
    pub to: usize,
}

/// Places buffers in one block. Gives where each starts, and the length of the block: the shortest of three greedy plans, each of which
/// puts one buffer after the other at the lowest place that is free for its whole life: the largest first, those of the fullest step first
/// (both Pisarchyk and Lee, 2020), and in the order of time.
pub fn place(lives: &[Life]) -> (Vec<usize>, usize) {
    let steps = lives.iter().map(|l| l.to + 1).max().unwrap_or(0);
    let alive: Vec<usize> =
        (0..steps).map(|s| lives.iter().filter(|l| (l.from..=l.to).contains(&s)).map(|l| l.bytes).sum()).collect();
    let fullest = |l: &Life| alive[l.from..=l.to].iter().copied().max().unwrap_or(0);
    let by_size: Vec<usize> = sorted(lives, |l| (std::cmp::Reverse(l.bytes), l.from));
    let by_step = sorted(lives, |l| (std::cmp::Reverse(fullest(l)), std::cmp::Reverse(l.bytes)));
    let by_time = sorted(lives, |l| (l.from, std::cmp::Reverse(l.bytes)));
    let plans = [by_size, by_step, by_time].map(|order| place_in_order(lives, &order));
    plans.into_iter().min_by_key(|(_, end)| *end).unwrap_or_default()
}

fn sorted<K: Ord>(lives: &[Life], key: impl Fn(&Life) -> K) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (key(&lives[i]), i));
    order
}

fn place_in_order(lives: &[Life], order: &[usize]) -> (Vec<usize>, usize) {
    let mut starts = vec![0; lives.len()];
    let mut placed: Vec<usize> = Vec::new();
    for &i in order {
        let meets = |&&other: &&usize| lives[other].from <= lives[i].to && lives[i].from <= lives[other].to;
        let mut taken: Vec<(usize, usize)> =
            placed.iter().filter(meets).map(|&other| (starts[other], starts[other] + lives[other].bytes)).collect();
        taken.sort_unstable();
        for (from, to) in taken {
            if from >= starts[i] + lives[i].bytes {
                break;
            }
            starts[i] = starts[i].max(to);
        }
        placed.push(i);
    }
    let end = lives.iter().zip(&starts).map(|(life, start)| start + life.bytes).max().unwrap_or(0);
    (starts, end)
}

/// What a model needs of a device's memories. An estimate: a runtime adds its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Bytes of activations, planned by lifetime.
    pub ram: u64,
    /// The node at which most is alive.
    pub peak_node: String,
    /// Bytes that are alive at each node, in the order of the graph.
    pub profile: Vec<u64>,
    /// Bytes of weights as kernels read them: a byte up to 8 bits, two for float16, four else.
    pub flash: u64,
}

/// Plans the memory of one inference. Values that are moved or clipped live where they came from, as kernels have it.
pub fn memory(model: &Model) -> Result<MemoryEstimate, ExecError> {
    let shapes = sinter_exec::shapes(model)?;
    let graph = &model.graph;
    let consumers = graph.consumers();
    let alone = |name: &str| consumers.get(name).is_none_or(|c| c.len() == 1) && !graph.is_output(name);
    // The value in whose place each value lives.
    let mut root: BTreeMap<&str, &str> = BTreeMap::new();
    let mut elements: BTreeMap<&str, usize> = graph.inputs.iter().map(|i| (i.name.as_str(), i.element.bytes())).collect();
    for node in &graph.nodes {
        let (moves, clips) = (node.op.is_view(), node.op.quantization().fuses);
        let (Some(x), Some(y)) = (node.inputs.first(), node.outputs.first()) else { continue };
        if model.weights.contains_key(x) {
            continue;
        }
        let place = *root.get(x.as_str()).unwrap_or(&x.as_str());
        if moves || (clips && alone(x)) {
            root.insert(y, place);
        }
    }
    let width = |name: &str, known: Option<usize>| match model.activations.get(name) {
        Some(quantizer) if quantizer.bits() <= 8 => 1,
        _ => known.unwrap_or(ElementType::Float.bytes()),
    };
    let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
    let mut touch = |name: &str, at: usize, known: Option<usize>| {
        let (Some((name, shape)), false) = (shapes.get_key_value(name), model.weights.contains_key(name)) else { return };
        let bytes = shape.iter().product::<i64>().max(0) as usize * width(name, known);
        let key = root.get(name.as_str()).map_or(name.as_str(), |r| shapes.get_key_value(*r).map_or(name.as_str(), |(k, _)| k));
        // Of values in one place the last says how wide its elements are: what a ReLU leaves, not the sums before it.
        let life = lives.entry(key).or_insert(Life { bytes, from: at, to: at });
        *life = Life { bytes: life.bytes.min(bytes), from: life.from.min(at), to: life.to.max(at) };
    };
    for input in &graph.inputs {
        touch(&input.name, 0, elements.remove(input.name.as_str()));
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        node.present_inputs().chain(node.outputs.iter().filter(|o| !o.is_empty())).for_each(|name| touch(name, i, None));
    }
    for output in &graph.outputs {
        touch(&output.name, graph.nodes.len(), None);
    }
    let all: Vec<Life> = lives.into_values().collect();
    let (_, ram) = place(&all);
    let alive = |step: usize| all.iter().filter(|l| (l.from..=l.to).contains(&step)).map(|l| l.bytes).sum::<usize>();
    let peak = (0..graph.nodes.len()).max_by_key(|&i| (alive(i), std::cmp::Reverse(i)));
    let stored = model.weights.values().filter(|w| w.role != Role::Constant).map(|w| {
        let each = match (w.quantizer(), w.half()) {
            (Some(quantizer), _) if quantizer.bits() <= 8 => 1,
            (None, Some(_)) => 2,
            _ => 4,
        };
        (w.numel() * each) as u64
    });
    Ok(MemoryEstimate {
        ram: ram as u64,
        profile: (0..graph.nodes.len()).map(|i| alive(i) as u64).collect(),
        peak_node: peak.map_or_else(String::new, |i| graph.nodes[i].name.clone()),
        flash: stored.sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_never_meet_share_a_place() {
        let life = |bytes, from, to| Life { bytes, from, to };
        let (starts, end) = place(&[life(100, 0, 1), life(50, 1, 2), life(100, 2, 3)]);
        assert_eq!((starts, end), (vec![0, 100, 0], 150));
        // A hole between two is used.
        let (starts, end) = place(&[life(64, 0, 9), life(32, 0, 3), life(16, 0, 9), life(32, 4, 9)]);
        assert_eq!((starts[1], starts[3], end), (64, 64, 112));
    }
}
