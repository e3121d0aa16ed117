//! Which of several results are better than which, when more than one figure counts.

/// A result: figures of which each is better the smaller it is, and by how much limits are exceeded (0: they are kept).
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The figures.
    pub losses: Vec<f64>,
    /// The sum over all limits, each as a share of the limit.
    pub violation: f64,
}

impl Outcome {
    /// Whether it is at least as good in everything and better in something; what keeps to the limits is better than what does not (constrained
    /// dominance; Deb et al., 2002).
    pub fn dominates(&self, other: &Self) -> bool {
        if self.violation != other.violation {
            return self.violation < other.violation;
        }
        let pairs = || self.losses.iter().zip(&other.losses);
        pairs().all(|(a, b)| a <= b) && pairs().any(|(a, b)| a < b)
    }
}

/// How many rounds of taking the best away it takes until each is among the best: 0 for those that nothing dominates.
pub fn ranks(outcomes: &[&Outcome]) -> Vec<usize> {
    let mut ranks = vec![usize::MAX; outcomes.len()];
    let mut left: Vec<usize> = (0..outcomes.len()).collect();
    for rank in 0.. {
        if left.is_empty() {
            break;
        }
        let free = |i: &usize| !left.iter().any(|&j| outcomes[j].dominates(outcomes[*i]));
        let best: Vec<usize> = left.iter().copied().filter(free).collect();
        // Values that are no numbers compare with nothing, so there is always somebody free.
        best.iter().for_each(|&i| ranks[i] = rank);
        left.retain(|i| !best.contains(i));
    }
    ranks
}

/// How far each lies from its neighbours, summed over the figures: what is alone counts more (crowding distance; Deb et al., 2002).
pub fn crowding(outcomes: &[&Outcome]) -> Vec<f64> {
    let mut distance = vec![0.0; outcomes.len()];
    for figure in 0..outcomes.first().map_or(0, |o| o.losses.len()) {
        let mut order: Vec<usize> = (0..outcomes.len()).collect();
        let loss = |i: usize| outcomes[i].losses[figure];
        order.sort_by(|&a, &b| loss(a).total_cmp(&loss(b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else { continue };
        let width = loss(last) - loss(first);
        (distance[first], distance[last]) = (f64::INFINITY, f64::INFINITY);
        for three in order.windows(3) {
            distance[three[1]] += if width > 0.0 { (loss(three[2]) - loss(three[0])) / width } else { 0.0 };
        }
    }
    distance
}

/// From the best to the worst: by rank, and within one rank those that are alone first.
pub fn order(outcomes: &[&Outcome]) -> Vec<usize> {
    let ranks = ranks(outcomes);
    let mut crowded = vec![0.0; outcomes.len()];
    for rank in 0..=ranks.iter().copied().max().unwrap_or(0) {
        let members: Vec<usize> = (0..outcomes.len()).filter(|&i| ranks[i] == rank).collect();
        let distances = crowding(&members.iter().map(|&i| outcomes[i]).collect::<Vec<_>>());
        members.into_iter().zip(distances).for_each(|(i, d)| crowded[i] = d);
    }
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    order.sort_by(|&a, &b| ranks[a].cmp(&ranks[b]).then(crowded[b].total_cmp(&crowded[a])));
    order
}

/// The area that a front of two figures dominates below a reference point.
pub fn hypervolume(front: &[(f64, f64)], reference: (f64, f64)) -> f64 {
    let mut points: Vec<(f64, f64)> = front.iter().copied().filter(|p| p.0 < reference.0 && p.1 < reference.1).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (mut area, mut height) = (0.0, reference.1);
    for (x, y) in points {
        if y < height {
            area += (reference.0 - x) * (height - y);
            height = y;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(losses: &[f64]) -> Outcome {
        Outcome { losses: losses.to_vec(), violation: 0.0 }
    }

    #[test]
    fn fronts_are_peeled_and_limits_come_first() {
        let all = [of(&[1.0, 4.0]), of(&[2.0, 2.0]), of(&[4.0, 1.0]), of(&[3.0, 3.0]), of(&[5.0, 5.0])];
        let all: Vec<&Outcome> = all.iter().collect();
        assert_eq!(ranks(&all), [0, 0, 0, 1, 2]);
        let bad = Outcome { losses: vec![0.0, 0.0], violation: 0.5 };
        assert!(all[4].dominates(&bad) && !bad.dominates(all[4]));
        assert_eq!(order(&all)[3..], [3, 4]);
    }

    /// By hand: a rectangle of 3 x 1, one of 2 x 2 and one of 1 x 1 more.
    #[test]
    fn areas_are_those_of_rectangles() {
        assert_eq!(hypervolume(&[(1.0, 4.0), (2.0, 2.0), (3.0, 1.0), (3.0, 3.0), (9.0, 0.0)], (4.0, 5.0)), 3.0 + 4.0 + 1.0);
        assert_eq!(hypervolume(&[], (1.0, 1.0)), 0.0);
    }

    #[test]
    fn what_is_alone_counts_more() {
        let all = [of(&[0.0, 10.0]), of(&[1.0, 9.0]), of(&[2.0, 8.0]), of(&[10.0, 0.0])];
        let distances = crowding(&all.iter().collect::<Vec<_>>());
        assert!(distances[0].is_infinite() && distances[3].is_infinite() && distances[2] > distances[1]);
    }
}
