//! Which operators are worth computing in integers, from what kernels take: a minimum cut of the graph between the two kinds of
//! arithmetic. An operator costs what its kernel takes on the side where it lies, a value that passes from one side to the other what it takes to
//! convert it. (The same reduction as in image segmentation: Greig, Porteous and Seheult, 1989.)

use std::collections::{BTreeMap, BTreeSet};

use pathfinding::directed::edmonds_karp::edmonds_karp_sparse;
use sinter_estimate::Rules;
use sinter_export::KernelTime;
use sinter_model::Model;

use crate::placement::{moves, product_before};

/// What stands for no price at all: more than all else together.
const NEVER: i64 = i64::MAX / 1024;

/// What every node of a model takes on each side, and what it takes to change sides.
#[derive(Debug)]
pub(crate) struct Costs {
    /// By node, in microseconds.
    integer: Vec<f64>,
    float: Vec<f64>,
    quantize: Line,
    dequantize: Line,
    /// Elements of each value.
    lengths: BTreeMap<String, f64>,
}

/// A time that grows with a number of elements.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    start: f64,
    slope: f64,
}

impl Line {
    /// By least squares; neither part falls below 0.
    fn through(points: &[(f64, f64)]) -> Line {
        let n = points.len().max(1) as f64;
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
        let spread = mean(&|p| (p.0 - x) * (p.0 - x));
        let slope = if spread > 0.0 { (mean(&|p| (p.0 - x) * (p.1 - y)) / spread).max(0.0) } else { 0.0 };
        let start = (y - slope * x).max(0.0);
        // A line that was held at 0 has the slope of the means.
        Line { start, slope: if start == 0.0 && x > 0.0 { y / x } else { slope } }
    }

    fn at(self, x: f64) -> f64 {
        self.start + self.slope * x
    }
}

impl Costs {
    /// From the profiles of the float model and of the model in integers. `shapes` are those of its values.
    pub fn new(model: &Model, float: &[KernelTime], integer: &[KernelTime], shapes: &BTreeMap<String, Vec<i64>>) -> Self {
        let lengths: BTreeMap<String, f64> =
            shapes.iter().map(|(name, shape)| (name.clone(), shape.iter().product::<i64>() as f64)).collect();
        let conversions = |kind: &str, suffix: &str| {
            let of_kind = integer.iter().filter(|k| k.kind == kind);
            let points: Vec<(f64, f64)> = of_kind
                .filter_map(|k| {
                    let name = k.name.trim_end_matches("/duplicated");
                    Some((*lengths.get(name.strip_suffix(suffix).unwrap_or(name))?, k.micros))
                })
                .collect();
            Line::through(&points)
        };
        let (quantize, dequantize) =
            (conversions("QuantizeLinear", ".quantized"), conversions("DequantizeLinear", ".dequantized"));
        let owners = Owners::of(model);
        let [mut float, mut integer] = [float, integer].map(|times| {
            let mut each = vec![None; model.graph.nodes.len()];
            for kernel in times.iter().filter(|k| !["QuantizeLinear", "DequantizeLinear"].contains(&k.kind.as_str())) {
                if let Some(owner) = owners.find(&kernel.name) {
                    *each[owner].get_or_insert(0.0) += kernel.micros;
                }
            }
            each
        });
        for (i, node) in model.graph.nodes.iter().enumerate() {
            // A product runs on both sides: one that was found on one side only has a name that we can't read on the other.
            let product = node.op.is_product();
            if product && (float[i].is_none() || integer[i].is_none()) {
                (float[i], integer[i]) = (None, None);
            }
        }
        let known = |all: Vec<Option<f64>>| all.into_iter().map(|t| t.unwrap_or(0.0)).collect();
        Self { integer: known(integer), float: known(float), quantize, dequantize, lengths }
    }

    fn length(&self, value: &str) -> f64 {
        self.lengths.get(value).copied().unwrap_or(0.0)
    }
}

/// Whose time a kernel's is.
struct Owners<'a> {
    model: &'a Model,
    names: BTreeMap<&'a str, usize>,
    producers: BTreeMap<&'a str, usize>,
}

impl<'a> Owners<'a> {
    fn of(model: &'a Model) -> Self {
        let nodes = &model.graph.nodes;
        let names = nodes.iter().enumerate().map(|(i, n)| (n.name.as_str(), i)).collect();
        Self { model, names, producers: model.graph.producers() }
    }

    /// The runtime names a kernel after the node that it stands for and a number, or after what the last of the nodes that it stands for gives.
    fn find(&self, kernel: &str) -> Option<usize> {
        let name = kernel.strip_prefix("fused ").unwrap_or(kernel);
        let name = name.strip_suffix("_nchwc").unwrap_or(name);
        let numbered = name.rsplit_once("_token_").filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
        let name = numbered.map_or(name, |(name, _)| name);
        let known = |name: &str| self.names.get(name).or_else(|| self.producers.get(name)).copied();
        // What became of several nodes is named after the first and what was done to them: `fc/MatMulAddFusion`.
        let mut at = known(name).or_else(|| known(name.rsplit_once('/')?.0))?;
        while let Some(before) = self.fused_with(at) {
            at = before;
        }
        Some(at)
    }

    /// The node that an activation is one kernel with.
    fn fused_with(&self, node: usize) -> Option<usize> {
        product_before(&self.model.graph.nodes, &self.producers, node)
    }
}

/// Of the nodes that could be computed in integers, by index, those that had better be in float; integer kernels are taken to be `factor` times as
/// slow as they were measured.
pub(crate) fn faster_in_float(model: &Model, integer: &BTreeSet<usize>, costs: &Costs, factor: f64) -> BTreeSet<usize> {
    let nodes = &model.graph.nodes;
    // Integers lie with the source: a node of them cuts its edge to the sink.
    let (source, sink) = (nodes.len(), nodes.len() + 1);
    let mut edges: BTreeMap<(usize, usize), i64> = BTreeMap::new();
    let mut add = |from: usize, to: usize, micros: f64| {
        let all = edges.entry((from, to)).or_insert(0);
        *all = all.saturating_add((micros * 1e3) as i64).min(NEVER);
    };
    let never = NEVER as f64 / 1e3;
    for i in 0..nodes.len() {
        match integer.contains(&i) {
            true => {
                add(source, i, costs.float[i]);
                add(i, sink, costs.integer[i] * factor);
            }
            false => add(i, sink, never),
        }
    }
    let owners = Owners::of(model);
    let consumers = model.graph.consumers();
    let given = |name: &str| owners.producers.get(name).copied();
    let inputs = model.graph.inputs.iter().map(|i| i.name.as_str());
    let values = inputs.chain(nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)));
    for (k, value) in values.enumerate() {
        let readers = consumers.get(value).map_or(&[][..], Vec::as_slice);
        let writer = given(value).unwrap_or(sink);
        // Products whose results are real numbers by themselves have nothing to convert.
        let float_result = writer != sink && nodes[writer].op.quantization().float_result;
        let (quantized, real) = (costs.quantize.at(costs.length(value)), costs.dequantize.at(costs.length(value)));
        if let ([only], true) = (readers, writer != sink)
            && owners.fused_with(*only) == Some(writer)
        {
            add(writer, *only, never);
            add(*only, writer, never);
            continue;
        }
        // What only moves integers stays among them: the runtime would take it there anyway.
        for &reader in readers.iter().filter(|&&r| moves(&nodes[r], Rules::OnnxRuntime) && writer != sink && integer.contains(&r))
        {
            add(writer, reader, never);
        }
        // Quantized once for all that read it in integers, made real for each that does not.
        let once = nodes.len() + 2 + k;
        add(once, writer, quantized * factor);
        for &reader in readers.iter().filter(|&&r| !nodes[r].op.reads_shape()) {
            add(reader, once, never);
            if writer != sink && !float_result {
                add(writer, reader, real * factor);
            }
        }
        if writer != sink && !float_result && model.graph.is_output(value) {
            add(writer, sink, real * factor);
        }
    }
    let vertices: BTreeSet<usize> = edges.keys().flat_map(|&(a, b)| [a, b]).chain([source, sink]).collect();
    let vertices: Vec<usize> = vertices.into_iter().collect();
    let (_, _, cut) = edmonds_karp_sparse(&vertices, &source, &sink, edges.iter().map(|(&(a, b), &c)| ((a, b), c)));
    let cut: BTreeSet<(usize, usize)> = cut.into_iter().map(|(edge, _)| edge).collect();
    let mut beside: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (&(a, b), _) in edges.iter().filter(|(edge, c)| **c > 0 && !cut.contains(edge)) {
        beside.entry(a).or_default().push(b);
    }
    let (mut reached, mut open) = (BTreeSet::from([source]), vec![source]);
    while let Some(at) = open.pop() {
        open.extend(beside.get(&at).into_iter().flatten().copied().filter(|&next| reached.insert(next)));
    }
    integer.iter().copied().filter(|i| !reached.contains(i)).collect()
}

#[cfg(test)]
mod tests {
    use sinter_model::{Attributes, ElementType, Graph, Node, ValueInfo};

    use super::*;

    /// Two branches that meet, an activation that runs with its convolution, and a last operator that the graph gives out.
    fn model() -> Model {
        let node = |name: &str, kind: &str, inputs: &[&str]| {
            let inputs = inputs.iter().map(|i| i.to_string()).collect();
            Node::new(name, kind, Attributes::new(), inputs, vec![format!("{name}.out")]).unwrap()
        };
        let nodes = vec![
            node("conv", "Conv", &["x", "w"]),
            node("relu", "Relu", &["conv.out"]),
            node("left", "Mul", &["relu.out", "x"]),
            node("exp", "Exp", &["relu.out"]),
            node("right", "Mul", &["exp.out", "relu.out"]),
            node("sum", "Add", &["left.out", "right.out"]),
        ];
        let value = |name: &str| ValueInfo { name: name.into(), element: ElementType::Float, shape: vec![] };
        let graph = Graph { inputs: vec![value("x")], outputs: vec![value("sum.out")], nodes, ..Graph::default() };
        Model { graph, ..Model::default() }
    }

    /// What an assignment costs, counted by going through the graph; `None` where it parts what runs as one.
    fn price(model: &Model, costs: &Costs, integer: &dyn Fn(usize) -> bool) -> Option<f64> {
        let nodes = &model.graph.nodes;
        if integer(0) != integer(1) {
            return None;
        }
        let mut all: f64 = (0..nodes.len()).map(|i| if integer(i) { costs.integer[i] } else { costs.float[i] }).sum();
        let writer = |value: &str| nodes.iter().position(|n| n.outputs[0] == value);
        for value in ["x", "relu.out", "exp.out", "left.out", "right.out", "sum.out"] {
            let from = writer(value).is_some_and(integer);
            let readers: Vec<bool> = nodes
                .iter()
                .enumerate()
                .filter(|(_, n)| n.inputs.iter().any(|i| i == value))
                .flat_map(|(i, n)| n.inputs.iter().filter(|v| *v == value).map(move |_| integer(i)))
                .collect();
            if !from && readers.contains(&true) {
                all += costs.quantize.at(costs.length(value));
            }
            let reals = readers.iter().filter(|r| !**r).count() + usize::from(value == "sum.out");
            all += if from { reals as f64 * costs.dequantize.at(costs.length(value)) } else { 0.0 };
        }
        Some(all)
    }

    #[test]
    fn the_cut_is_the_cheapest_of_all_placements() {
        let model = model();
        let able = BTreeSet::from([0, 1, 2, 4, 5]);
        let mut random = fastrand::Rng::with_seed(7);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let mut draw = |most: f64| (random.f64() * most * 100.0).round() / 100.0;
            let costs = Costs {
                integer: vec![draw(20.0), 0.0, draw(9.0), 0.0, draw(9.0), draw(9.0)],
                float: vec![draw(30.0), 0.0, draw(9.0), draw(9.0), draw(9.0), draw(9.0)],
                quantize: Line { start: draw(4.0), slope: 0.0 },
                dequantize: Line { start: draw(4.0), slope: 0.01 },
                lengths: BTreeMap::from([("relu.out".to_string(), 50.0)]),
            };
            let float = faster_in_float(&model, &able, &costs, 1.0);
            let found = price(&model, &costs, &|i| able.contains(&i) && !float.contains(&i)).unwrap();
            let each = (0..1u32 << able.len()).filter_map(|bits| {
                let chosen: Vec<usize> = able.iter().enumerate().filter(|(k, _)| bits >> k & 1 == 1).map(|(_, &i)| i).collect();
                price(&model, &costs, &|i| chosen.contains(&i))
            });
            let best = each.fold(f64::INFINITY, f64::min);
            assert!((found - best).abs() < 0.01, "{float:?} costs {found}, the best {best}: {costs:?}");
            seen.insert(float.len());
        }
        // The draws show all integers, none, and something between.
        assert!(seen.contains(&0) && seen.contains(&5) && seen.len() > 2, "{seen:?}");
    }

    #[test]
    fn kernels_are_known_by_the_names_that_the_runtime_makes() {
        let model = model();
        let owners = Owners::of(&model);
        for (kernel, node) in [
            ("conv", 0),
            ("conv_token_12", 0),
            ("relu.out_nchwc", 0),
            ("fused conv", 0),
            ("left", 2),
            ("sum_token_1", 5),
            ("right/MatMulAddFusion", 4),
        ] {
            assert_eq!(owners.find(kernel), Some(node), "{kernel}");
        }
        assert_eq!(owners.find("ReorderInput_token_3"), None);
    }

    #[test]
    fn a_line_goes_through_its_points_and_never_below_zero() {
        let line = Line::through(&[(10.0, 3.0), (20.0, 5.0), (30.0, 7.0)]);
        assert!((line.start - 1.0).abs() < 1e-9 && (line.slope - 0.2).abs() < 1e-9, "{line:?}");
        let steep = Line::through(&[(10.0, 1.0), (20.0, 4.0)]);
        assert!(steep.start == 0.0 && (steep.slope - 2.5 / 15.0).abs() < 1e-9, "{steep:?}");
    }
}
