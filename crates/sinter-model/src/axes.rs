//! The axes mapping: which axis of an input is which axis of an output.
//!
//! Each operator states, for its own inputs and outputs, how indices along one axis relate to indices along another.
//! Structured pruning joins these statements over the whole graph: what is connected must shrink together, so residual
//! additions, depthwise convolutions, concatenations and flattened features need no rules of their own.

/// The shapes at one node. A scalar has the empty shape.
#[derive(Debug, Clone, Default)]
pub struct IoShapes {
    /// `None` for an input that is absent.
    pub inputs: Vec<Option<Vec<i64>>>,
    /// One an output.
    pub outputs: Vec<Vec<i64>>,
}

impl IoShapes {
    /// The elements of input `i`; 0 when absent.
    pub fn input_len(&self, i: usize) -> u64 {
        self.inputs.get(i).and_then(|s| s.as_ref()).map_or(0, |s| product(s))
    }

    /// The elements of output `i`.
    pub fn output_len(&self, i: usize) -> u64 {
        self.outputs.get(i).map_or(0, |s| product(s))
    }
}

fn product(shape: &[i64]) -> u64 {
    shape.iter().map(|&n| n.max(0) as u64).product()
}

/// An input or output of one node, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// An input, by its place.
    In(usize),
    /// An output, by its place.
    Out(usize),
}

/// One axis of one input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Axis {
    /// Which input or output.
    pub slot: Slot,
    /// Which of its axes.
    pub axis: usize,
}

/// How the indices of two axes correspond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Index `i` of one is index `i` of the other.
    Same(Axis, Axis),
    /// Index `i` of `fine` belongs to index `i / (len(fine) / len(coarse))` of `coarse`.
    Block {
        /// Its coarse.
        coarse: Axis,
        /// Its fine.
        fine: Axis,
    },
    /// Both axes are cut into `count` equal parts; all of a part of one goes with all of the same part of the other.
    Parts {
        /// One of them.
        one: Axis,
        /// The other.
        other: Axis,
        /// How many.
        count: usize,
    },
    /// Index `i` of `part` is index `start + i` of `whole`.
    Offset {
        /// Its part.
        part: Axis,
        /// Its whole.
        whole: Axis,
        /// Its start.
        start: usize,
    },
    /// No index of this axis may be removed.
    Fixed(Axis),
}

/// Collects one node's relations. Axes of length 1 that broadcast need no mention.
#[derive(Debug)]
pub struct AxisLinks<'a> {
    /// The shapes at the node.
    pub shapes: &'a IoShapes,
    relations: Vec<Relation>,
}

impl<'a> AxisLinks<'a> {
    /// No relations yet.
    pub fn new(shapes: &'a IoShapes) -> Self {
        Self { shapes, relations: Vec::new() }
    }

    /// What was stated.
    pub fn into_relations(self) -> Vec<Relation> {
        self.relations
    }

    /// The shape at a slot; empty when the input is absent.
    pub fn shape(&self, slot: Slot) -> &'a [i64] {
        match slot {
            Slot::In(i) => self.shapes.inputs.get(i).and_then(|s| s.as_deref()).unwrap_or(&[]),
            Slot::Out(i) => self.shapes.outputs.get(i).map_or(&[], |s| s.as_slice()),
        }
    }

    fn exists(&self, a: (Slot, usize)) -> bool {
        a.1 < self.shape(a.0).len()
    }

    /// Both axes are one. An axis that does not exist (absent optional input) is passed over.
    pub fn same(&mut self, a: (Slot, usize), b: (Slot, usize)) {
        if self.exists(a) && self.exists(b) {
            self.relations.push(Relation::Same(axis(a), axis(b)));
        }
    }

    /// `fine` is `coarse` with each index repeated as a block.
    pub fn block(&mut self, coarse: (Slot, usize), fine: (Slot, usize)) {
        self.relations.push(Relation::Block { coarse: axis(coarse), fine: axis(fine) });
    }

    /// Both axes are cut into `count` parts that go together.
    pub fn parts(&mut self, one: (Slot, usize), other: (Slot, usize), count: usize) {
        self.relations.push(Relation::Parts { one: axis(one), other: axis(other), count });
    }

    /// `part` lies in `whole` from `start` on.
    pub fn offset(&mut self, part: (Slot, usize), whole: (Slot, usize), start: usize) {
        self.relations.push(Relation::Offset { part: axis(part), whole: axis(whole), start });
    }

    /// This axis keeps its length.
    pub fn fix(&mut self, a: (Slot, usize)) {
        if self.exists(a) {
            self.relations.push(Relation::Fixed(axis(a)));
        }
    }

    /// No axis of this slot may change.
    pub fn fix_slot(&mut self, slot: Slot) {
        for i in 0..self.shape(slot).len() {
            self.fix((slot, i));
        }
    }

    /// No axis of the node may change.
    pub fn fix_all(&mut self) {
        for i in 0..self.shapes.inputs.len() {
            self.fix_slot(Slot::In(i));
        }
        for i in 0..self.shapes.outputs.len() {
            self.fix_slot(Slot::Out(i));
        }
    }

    /// Input `i` and output `o` have the same axes, one for one.
    pub fn same_shape(&mut self, i: usize, o: usize) {
        for a in 0..self.shape(Slot::Out(o)).len() {
            self.same((Slot::In(i), a), (Slot::Out(o), a));
        }
    }

    /// Input `i` broadcasts to output 0 by NumPy's rules (aligned at the right; length 1 stretches).
    pub fn broadcast(&mut self, i: usize) {
        let out = self.shape(Slot::Out(0));
        let input = self.shape(Slot::In(i));
        let shift = out.len().saturating_sub(input.len());
        for a in 0..input.len() {
            if input[a] == out[a + shift] {
                self.same((Slot::In(i), a), (Slot::Out(0), a + shift));
            }
        }
    }

    /// The shapes of input `i` and output `o` hold the same elements in the same order (Reshape, Flatten). Axes that are
    /// grouped or split follow the outermost axis of their group; the inner ones keep their length.
    pub fn regroup(&mut self, i: usize, o: usize) {
        let (a, b) = (self.shape(Slot::In(i)), self.shape(Slot::Out(o)));
        let (mut x, mut y) = (0, 0);
        while x < a.len() || y < b.len() {
            let (x0, y0) = (x, y);
            let mut pa = 1;
            let mut pb = 1;
            loop {
                if pa <= pb && x < a.len() {
                    pa *= a[x];
                    x += 1;
                } else if y < b.len() {
                    pb *= b[y];
                    y += 1;
                } else if x < a.len() {
                    pa *= a[x];
                    x += 1;
                } else {
                    break;
                }
                if pa == pb && x > x0 && y > y0 {
                    break;
                }
            }
            self.regroup_segment((Slot::In(i), x0..x), (Slot::Out(o), y0..y));
        }
    }

    fn regroup_segment(&mut self, a: (Slot, std::ops::Range<usize>), b: (Slot, std::ops::Range<usize>)) {
        let long = |this: &Self, (slot, range): &(Slot, std::ops::Range<usize>)| -> Vec<usize> {
            range.clone().filter(|&i| this.shape(*slot)[i] != 1).collect()
        };
        let (la, lb) = (long(self, &a), long(self, &b));
        match (la.as_slice(), lb.as_slice()) {
            ([], _) | (_, []) => {}
            ([x], [y]) => self.same((a.0, *x), (b.0, *y)),
            ([x], [y, inner @ ..]) => {
                self.block((b.0, *y), (a.0, *x));
                inner.iter().for_each(|&i| self.fix((b.0, i)));
            }
            ([x, inner @ ..], [y]) => {
                self.block((a.0, *x), (b.0, *y));
                inner.iter().for_each(|&i| self.fix((a.0, i)));
            }
            _ => {
                la.iter().for_each(|&i| self.fix((a.0, i)));
                lb.iter().for_each(|&i| self.fix((b.0, i)));
            }
        }
    }
}

fn axis((slot, axis): (Slot, usize)) -> Axis {
    Axis { slot, axis }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regrouped(a: &[i64], b: &[i64]) -> Vec<Relation> {
        let shapes = IoShapes { inputs: vec![Some(a.to_vec())], outputs: vec![b.to_vec()] };
        let mut links = AxisLinks::new(&shapes);
        links.regroup(0, 0);
        links.into_relations()
    }

    fn input(axis: usize) -> Axis {
        Axis { slot: Slot::In(0), axis }
    }

    fn output(axis: usize) -> Axis {
        Axis { slot: Slot::Out(0), axis }
    }

    #[test]
    fn flatten_follows_the_channel() {
        let relations = regrouped(&[2, 50, 4, 4], &[2, 800]);
        assert_eq!(relations[0], Relation::Same(input(0), output(0)));
        assert_eq!(relations[1], Relation::Block { coarse: input(1), fine: output(1) });
        assert_eq!(relations[2..], [Relation::Fixed(input(2)), Relation::Fixed(input(3))]);
    }

    #[test]
    fn flatten_of_batch_one() {
        let relations = regrouped(&[1, 50, 4, 4], &[1, 800]);
        assert!(relations.contains(&Relation::Block { coarse: input(1), fine: output(1) }));
        let relations = regrouped(&[1, 64, 1, 1], &[1, 64]);
        assert_eq!(relations, [Relation::Same(input(1), output(1))]);
    }

    #[test]
    fn heads_split_from_the_hidden_axis() {
        let relations = regrouped(&[2, 7, 64], &[2, 7, 8, 8]);
        assert!(relations.contains(&Relation::Block { coarse: output(2), fine: input(2) }));
        assert!(relations.contains(&Relation::Fixed(output(3))));
    }

    #[test]
    fn crossing_groups_are_fixed() {
        let relations = regrouped(&[6, 4], &[4, 6]);
        assert!(relations.iter().all(|r| matches!(r, Relation::Fixed(_))));
    }
}
