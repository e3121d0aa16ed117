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
    match outcomes.iter().map(|o| o.losses.len()).max() {
        Some(1 | 2) => ranks_of_two(outcomes),
        _ => placed(outcomes),
    }
}

/// Of one or two figures: each stands behind the last front that has something before it in both (Jensen, 2003), found by halving.
fn ranks_of_two(outcomes: &[&Outcome]) -> Vec<usize> {
    let figures = |i: usize| (outcomes[i].violation, outcomes[i].losses[0], outcomes[i].losses.get(1).copied().unwrap_or(0.0));
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (figures(a), figures(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
    });
    let mut ranks = vec![0; outcomes.len()];
    // The least second figure of each front of this violation, and the number of fronts before.
    let (mut tails, mut before): (Vec<f64>, usize) = (Vec::new(), 0);
    let mut last: Option<usize> = None;
    for &i in &order {
        let (violation, first, second) = figures(i);
        if last.is_some_and(|l| figures(l).0 != violation) {
            before += tails.len();
            tails.clear();
        }
        ranks[i] = match last.filter(|&l| figures(l) == (violation, first, second)) {
            // The same figures are no better and no worse.
            Some(l) => ranks[l],
            None => {
                let front = tails.partition_point(|tail| *tail <= second);
                match tails.get_mut(front) {
                    Some(tail) => *tail = second,
                    None => tails.push(second),
                }
                before + front
            }
        };
        last = Some(i);
    }
    ranks
}

/// Of any number of figures: in their order nobody can be dominated by one who comes later, so each goes to the first front that holds nobody before it in
/// everything (efficient non-dominated sorting; Zhang et al., 2015).
fn placed(outcomes: &[&Outcome]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    let compared = |a: &Outcome, b: &Outcome| {
        let figures = a.losses.iter().zip(&b.losses).map(|(a, b)| a.total_cmp(b));
        std::iter::once(a.violation.total_cmp(&b.violation))
            .chain(figures)
            .find(|o| o.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    order.sort_by(|&a, &b| compared(outcomes[a], outcomes[b]));
    let (mut ranks, mut fronts) = (vec![0; outcomes.len()], Vec::<Vec<usize>>::new());
    for i in order {
        // Whoever came last is most like this one.
        let free = |front: &Vec<usize>| !front.iter().rev().any(|&other| outcomes[other].dominates(outcomes[i]));
        let rank = fronts.iter().position(free).unwrap_or(fronts.len());
        if rank == fronts.len() {
            fronts.push(Vec::new());
        }
        fronts[rank].push(i);
        ranks[i] = rank;
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
    let mut order: Vec<usize> = (0..outcomes.len()).collect();
    order.sort_by_key(|&i| ranks[i]);
    let mut sorted = Vec::with_capacity(order.len());
    for front in order.chunk_by(|&a, &b| ranks[a] == ranks[b]) {
        let distances = crowding(&front.iter().map(|&i| outcomes[i]).collect::<Vec<_>>());
        let mut front: Vec<(usize, f64)> = front.iter().copied().zip(distances).collect();
        front.sort_by(|a, b| b.1.total_cmp(&a.1));
        sorted.extend(front.into_iter().map(|(i, _)| i));
    }
    sorted
}

/// The volume below a reference point that some figures dominate: of two the area. By slices along the last figure, so for few figures.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let (Some((end, others)), mut inside) = (reference.split_last(), points.to_vec()) else { return 0.0 };
    inside.retain(|p| p.len() == reference.len() && p.iter().zip(reference).all(|(v, r)| v < r));
    let last = |p: &Vec<f64>| p[p.len() - 1];
    if others.is_empty() {
        return inside.iter().map(|p| end - p[0]).fold(0.0, f64::max);
    }
    inside.sort_by(|a, b| last(a).total_cmp(&last(b)));
    let (mut volume, mut slice): (f64, Vec<Vec<f64>>) = (0.0, Vec::new());
    for (i, point) in inside.iter().enumerate() {
        let flat = point[..point.len() - 1].to_vec();
        // What lies behind another in the slice adds nothing to any later one.
        if !slice.iter().any(|other| other.iter().zip(&flat).all(|(a, b)| a <= b)) {
            slice.retain(|other| !flat.iter().zip(other).all(|(a, b)| a <= b));
            slice.push(flat);
        }
        let thick = inside.get(i + 1).map_or(*end, last) - last(point);
        if thick > 0.0 {
            volume += thick * hypervolume(&slice, others);
        }
    }
    volume
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

    /// The definition: whoever nothing dominates any more is next (fast non-dominated sorting; Deb et al., 2002).
    fn peeled(outcomes: &[&Outcome]) -> Vec<usize> {
        let count = outcomes.len();
        let mut ranks = vec![0; count];
        let mut worse: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut betters = vec![0usize; count];
        for a in 0..count {
            for b in 0..count {
                if outcomes[a].dominates(outcomes[b]) {
                    worse[a].push(b);
                    betters[b] += 1;
                }
            }
        }
        let mut front: Vec<usize> = (0..count).filter(|&i| betters[i] == 0).collect();
        for rank in 0.. {
            if front.is_empty() {
                break;
            }
            let mut next = Vec::new();
            for &i in &front {
                ranks[i] = rank;
                for &j in &worse[i] {
                    betters[j] -= 1;
                    if betters[j] == 0 {
                        next.push(j);
                    }
                }
            }
            front = next;
        }
        ranks
    }

    /// The quick ways against the definition, ties and limits included.
    #[test]
    fn both_ways_to_peel_agree() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..200 {
            let mut draw = || Outcome {
                losses: (0..1 + round % 4).map(|_| f64::from(random.u8(..6))).collect(),
                violation: f64::from(random.u8(..8).saturating_sub(5)),
            };
            let all: Vec<Outcome> = (0..30).map(|_| draw()).collect();
            let all: Vec<&Outcome> = all.iter().collect();
            assert_eq!(ranks(&all), peeled(&all), "{all:?}");
        }
    }

    /// By hand: a rectangle of 3 x 1, one of 2 x 2 and one of 1 x 1 more.
    #[test]
    fn areas_are_those_of_rectangles() {
        let points = [[1.0, 4.0], [2.0, 2.0], [3.0, 1.0], [3.0, 3.0], [9.0, 0.0]].map(Vec::from);
        assert_eq!(hypervolume(&points, &[4.0, 5.0]), 3.0 + 4.0 + 1.0);
        assert_eq!(hypervolume(&[], &[1.0, 1.0]), 0.0);
        // Two boxes that share one: 1 x 2 x 2 and 2 x 1 x 1, less 1 x 1 x 1; and a point outside.
        let boxes = [vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 1.0], vec![0.0, 3.0, 0.0]];
        assert_eq!(hypervolume(&boxes, &[2.0, 2.0, 2.0]), 4.0 + 2.0 - 1.0);
    }

    #[test]
    fn what_is_alone_counts_more() {
        let all = [of(&[0.0, 10.0]), of(&[1.0, 9.0]), of(&[2.0, 8.0]), of(&[10.0, 0.0])];
        let distances = crowding(&all.iter().collect::<Vec<_>>());
        assert!(distances[0].is_infinite() && distances[3].is_infinite() && distances[2] > distances[1]);
    }
}
