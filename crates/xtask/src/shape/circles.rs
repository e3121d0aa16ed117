//! Circles in a graph.

/// Sets of at least two nodes of which each reaches each (Tarjan, 1972).
pub fn of(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search =
        Search { edges, order: vec![None; edges.len()], low: vec![0; edges.len()], stack: vec![], found: vec![], next: 0 };
    for node in 0..edges.len() {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search.found
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    /// When a node was met.
    order: Vec<Option<usize>>,
    /// The earliest node that it reaches.
    low: Vec<usize>,
    stack: Vec<usize>,
    found: Vec<Vec<usize>>,
    next: usize,
}

impl Search<'_> {
    fn visit(&mut self, node: usize) {
        let order = self.next;
        (self.order[node], self.low[node]) = (Some(order), order);
        self.next += 1;
        self.stack.push(node);
        for &to in &self.edges[node] {
            match self.order[to] {
                None => {
                    self.visit(to);
                    self.low[node] = self.low[node].min(self.low[to]);
                }
                Some(met) if self.stack.contains(&to) => self.low[node] = self.low[node].min(met),
                Some(_) => {}
            }
        }
        if self.low[node] == order {
            let at = self.stack.iter().position(|&n| n == node).unwrap_or(0);
            let mut circle = self.stack.split_off(at);
            circle.sort_unstable();
            if circle.len() > 1 {
                self.found.push(circle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn circles_are_found_and_chains_are_not() {
        // 0 -> 1 -> 2 -> 0, 3 -> 0, 4 <-> 5.
        let edges = vec![vec![1], vec![2], vec![0], vec![0], vec![5], vec![4]];
        let mut found = super::of(&edges);
        found.sort();
        assert_eq!(found, [vec![0, 1, 2], vec![4, 5]]);
        assert!(super::of(&[vec![1], vec![2], vec![]]).is_empty());
    }
}
