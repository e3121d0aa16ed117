//! `If`, `Loop` and `Scan`, resolved while a model is read: a branch whose condition follows from stored numbers and shapes takes its place, a loop whose
//! steps can be counted is unrolled. A condition that depends on the data has both branches computed, and one chosen.

use std::collections::BTreeMap;

use sinter_exec::{Runner, blank_inputs};
use sinter_model::{Attributes, Inputs, Mode, Node, Role, Weight, elements, to_i64s};
use tch::Tensor;

use crate::follows::Follows;
use crate::inline::Names;
use crate::proto::{GraphProto, NodeProto};
use crate::reader::Reader;

/// Steps of one loop.
const MOST_STEPS: i64 = 10_000;
/// How often what was read so far may be run to see what follows from shapes.
const MOST_RUNS: usize = 500;
/// Elements of a tensor that conditions and counts are computed from.
const FEW: usize = 4096;

/// A loop that is being unrolled.
struct Steps {
    /// Without its tensors, which are stored once.
    body: GraphProto,
    stored: Names,
    /// What the next step reads of the last.
    carried: Vec<String>,
    /// What each step gives beside.
    gathered: Vec<Vec<String>>,
}

impl Reader<'_> {
    /// Adds what a node of control flow means; `false` where it is none.
    pub(crate) fn control(&mut self, name: &str, node: &NodeProto) -> Result<bool, String> {
        match (node.op_type.as_str(), node.domain.as_str()) {
            ("If", "" | "ai.onnx") => self.branch(name, node)?,
            ("Loop", "" | "ai.onnx") => self.unroll(node)?,
            ("Scan", "" | "ai.onnx") => self.scan(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn branch(&mut self, name: &str, node: &NodeProto) -> Result<(), String> {
        let (then, other) = (graph(node, "then_branch")?, graph(node, "else_branch")?);
        let condition = node.input.first().ok_or("it has no condition")?;
        if let Some(value) = self.known(condition)? {
            let taken = if truth(&value)? { then } else { other };
            return self.splice(taken, &[], &node.output, "");
        }
        let fresh = |reader: &mut Self, side: &str| -> Vec<String> {
            node.output.iter().map(|o| if o.is_empty() { String::new() } else { reader.fresh(&format!("{o}.{side}")) }).collect()
        };
        let (yes, no) = (fresh(self, "then"), fresh(self, "else"));
        self.splice(then, &[], &yes, "")?;
        self.splice(other, &[], &no, "")?;
        let scalar = self.constant(&format!("{condition}.scalar"), Tensor::from_slice::<i64>(&[]));
        let chooses = self.fresh(&format!("{condition}.chooses"));
        self.add_simple("Reshape", &[condition, &scalar], &chooses, &[])?;
        let names: Vec<&str> = yes.iter().chain(&no).map(String::as_str).collect();
        let seen = self.observe(&names)?;
        for ((yes, no), output) in yes.iter().zip(&no).zip(&node.output).filter(|(_, o)| !o.is_empty()) {
            let sizes = |of: &BTreeMap<String, Tensor>| (of.get(yes).map(Tensor::size), of.get(no).map(Tensor::size));
            if let Some((a, b)) = seen.iter().map(sizes).find(|(a, b)| a != b) {
                let text = |size: Option<Vec<i64>>| format!("{:?}", size.unwrap_or_default());
                return Err(format!(
                    "its condition `{condition}` depends on the data, and its branches give `{output}` other shapes ({} and {})",
                    text(a),
                    text(b)
                ));
            }
            self.add_simple("Where", &[&chooses, yes, no], output, &[])?;
        }
        self.chooses = true;
        self.notes
            .push(format!("both branches of `{name}` (If) are computed, and one is chosen: its condition depends on the data"));
        Ok(())
    }

    fn unroll(&mut self, node: &NodeProto) -> Result<(), String> {
        let body = graph(node, "body")?;
        let slot = |at: usize| node.input.get(at).map_or("", String::as_str);
        let trips = match slot(0) {
            "" => None,
            name => Some(whole(&self.known(name)?.ok_or_else(|| data_decides(name))?)?),
        };
        if slot(1).is_empty() && trips.is_some_and(|trips| trips > MOST_STEPS) {
            return Err(format!("it has more than {MOST_STEPS} steps"));
        }
        let mut goes_on = slot(1).to_string();
        let mut steps = self.steps(body, node.input.get(2..).unwrap_or_default().to_vec(), 1)?;
        for step in 0.. {
            let on = match goes_on.as_str() {
                "" => true,
                name => truth(&self.known(name)?.ok_or_else(|| data_decides(name))?)?,
            };
            if !on || trips.is_some_and(|trips| step >= trips) {
                break;
            }
            if step >= MOST_STEPS {
                return Err(format!("it has more than {MOST_STEPS} steps"));
            }
            let number = self.constant("loop.step", Tensor::from(step));
            let holds = match goes_on.as_str() {
                "" => self.constant("loop.condition", Tensor::from(true)),
                name => name.to_string(),
            };
            let conditions = self.step(&mut steps, vec![number, holds], vec![])?;
            goes_on.clone_from(&conditions[0]);
        }
        self.carry(&steps, &node.output)?;
        for (parts, output) in steps.gathered.iter().zip(node.output.iter().skip(steps.carried.len())) {
            self.stack(parts, 0, output)?;
        }
        Ok(())
    }

    fn scan(&mut self, node: &NodeProto) -> Result<(), String> {
        if self.opset < 9 {
            return Err("Scan of opset 8 means something else: export the model again with opset 13 or later".into());
        }
        let body = graph(node, "body")?;
        let ints = |key: &str| node.attribute.iter().find(|a| a.name == key).map(|a| a.ints.clone()).unwrap_or_default();
        let scanned = node.attribute.iter().find(|a| a.name == "num_scan_inputs").map_or(0, |a| a.i);
        let states = usize::try_from(node.input.len() as i64 - scanned).map_err(|_| "it has fewer inputs than it scans")?;
        let at = |list: &[i64], nth: usize| list.get(nth).copied().unwrap_or(0);
        let (axes, backwards) = (ints("scan_input_axes"), ints("scan_input_directions"));
        let (result_axes, results_backwards) = (ints("scan_output_axes"), ints("scan_output_directions"));
        let (carried, sequences) = node.input.split_at_checked(states).ok_or("it scans fewer than no input")?;
        let first = sequences.first().ok_or("it scans nothing")?;
        let length = self.length(first, at(&axes, 0))?;
        if length > MOST_STEPS {
            return Err(format!("it has more than {MOST_STEPS} steps"));
        }
        let mut steps = self.steps(body, carried.to_vec(), 0)?;
        for step in 0..length {
            let mut elements = Vec::new();
            for (nth, sequence) in sequences.iter().enumerate() {
                let place = if at(&backwards, nth) == 1 { length - 1 - step } else { step };
                let index = self.constant("scan.step", Tensor::from(place));
                let element = self.fresh(&format!("{sequence}.{place}"));
                self.add_simple("Gather", &[sequence, &index], &element, &[("axis", at(&axes, nth))])?;
                elements.push(element);
            }
            self.step(&mut steps, vec![], elements)?;
        }
        self.carry(&steps, &node.output)?;
        for (nth, (parts, output)) in steps.gathered.iter_mut().zip(node.output.iter().skip(states)).enumerate() {
            if at(&results_backwards, nth) == 1 {
                parts.reverse();
            }
            self.stack(parts, at(&result_axes, nth), output)?;
        }
        Ok(())
    }

    /// A loop before its first step, whose body gives `lead` values before those that it carries.
    fn steps(&mut self, body: &GraphProto, carried: Vec<String>, lead: usize) -> Result<Steps, String> {
        let scanned = body.output.len().checked_sub(lead + carried.len()).ok_or("its body gives too few values")?;
        let (body, stored) = self.stored_once(body)?;
        Ok(Steps { body, stored, carried, gathered: vec![Vec::new(); scanned] })
    }

    /// Adds one step, which reads `before`, what is carried, and `behind`. Returns what the body gives before what it carries.
    fn step(&mut self, steps: &mut Steps, before: Vec<String>, behind: Vec<String>) -> Result<Vec<String>, String> {
        let given = [before, steps.carried.clone(), behind].concat();
        let results: Vec<String> = steps.body.output.iter().map(|o| self.fresh(&o.name)).collect();
        self.splice_with(&steps.body, &given, &results, "", steps.stored.clone())?;
        let lead = results.len() - steps.carried.len() - steps.gathered.len();
        let (lead, rest) = results.split_at(lead);
        let (next, parts) = rest.split_at(steps.carried.len());
        steps.carried = next.to_vec();
        steps.gathered.iter_mut().zip(parts).for_each(|(all, part)| all.push(part.clone()));
        Ok(lead.to_vec())
    }

    /// Gives what a loop carried to its end the names of its first results.
    fn carry(&mut self, steps: &Steps, outputs: &[String]) -> Result<(), String> {
        let mut wanted = steps.carried.iter().zip(outputs).filter(|(_, output)| !output.is_empty());
        wanted.try_for_each(|(value, output)| self.add_simple("Identity", &[value], output, &[]))
    }

    /// The results of all steps along a new axis; nothing where nobody wants them.
    fn stack(&mut self, parts: &[String], axis: i64, output: &str) -> Result<(), String> {
        if output.is_empty() {
            return Ok(());
        }
        if parts.is_empty() {
            return Err(format!("`{output}` gathers the results of no step at all"));
        }
        let axes = self.constant("loop.axis", Tensor::from_slice(&[axis]));
        let mut rows = Vec::new();
        for part in parts {
            let row = self.fresh(&format!("{part}.row"));
            self.add_simple("Unsqueeze", &[part, &axes], &row, &[])?;
            rows.push(row);
        }
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        self.add_simple("Concat", &rows, output, &[("axis", axis)])
    }

    /// Adds a node that the file has not.
    pub(crate) fn add_simple(&mut self, kind: &str, inputs: &[&str], output: &str, ints: &[(&str, i64)]) -> Result<(), String> {
        let attributes = ints.iter().fold(Attributes::new(), |all, (key, value)| all.int(key, *value));
        let inputs = inputs.iter().map(|i| i.to_string()).collect();
        let node = Node::new(output, kind, attributes, inputs, vec![output.to_string()]).map_err(|e| e.to_string())?;
        self.count(1)?;
        self.compute_fixed(&node);
        self.model.graph.nodes.push(node);
        Ok(())
    }

    fn constant(&mut self, hint: &str, value: Tensor) -> String {
        let name = self.fresh(hint);
        self.model.weights.insert(name.clone(), Weight::new(Role::Constant, value));
        name
    }

    /// What a value is whatever the data and the batch: stored numbers, shapes, and what is computed from these. `None` where the data decides.
    fn known(&mut self, name: &str) -> Result<Option<Tensor>, String> {
        if let Some(value) = self.fixed(name) {
            return Ok(Some(value));
        }
        if !self.follows().derived.contains(name) {
            return Ok(None);
        }
        let seen: Vec<Tensor> = self.observe(&[name])?.into_iter().filter_map(|mut of| of.remove(name)).collect();
        let Some(first) = seen.first() else { return Ok(None) };
        match seen.iter().all(|v| v.size() == first.size() && v.kind() == first.kind() && v.equal(first)) {
            true => Ok(Some(first.shallow_clone())),
            false => Err(format!(
                "`{name}` differs with the batch: export the model with a batch of one, which Sinter frees where it can"
            )),
        }
    }

    fn follows(&self) -> Follows {
        Follows::of(&self.model, &|name| self.fixed(name).is_some())
    }

    /// A stored number, or what is computed from stored numbers alone.
    fn fixed(&self, name: &str) -> Option<Tensor> {
        let stored = self.model.weights.get(name).map(|w| w.latent().shallow_clone());
        stored.or_else(|| self.computed.get(name).map(Tensor::shallow_clone))
    }

    /// Notes what a node makes of stored numbers, where these are few.
    pub(crate) fn compute_fixed(&mut self, node: &Node) {
        let inputs: Option<Vec<Option<Tensor>>> =
            node.inputs.iter().map(|i| if i.is_empty() { Some(None) } else { self.fixed(i).map(Some) }).collect();
        let Some(inputs) = inputs.filter(|all| !node.op.is_random() && all.iter().flatten().all(|t| t.numel() <= FEW)) else {
            return;
        };
        // One that does not run is told when the whole model runs.
        if let Ok(outputs) = tch::no_grad(|| node.compute(&Inputs(&inputs), Mode::Predict)) {
            let few = node.outputs.iter().cloned().zip(outputs).filter(|(_, value)| value.numel() <= FEW);
            self.computed.extend(few);
        }
    }

    /// The length of an axis, counted from the end when negative. Errors where it is that of the batch.
    fn length(&mut self, name: &str, axis: i64) -> Result<i64, String> {
        let values = match self.fixed(name) {
            Some(value) => vec![value],
            None if self.follows().shaped_by_data.contains(name) => vec![],
            None => self.observe(&[name])?.into_iter().filter_map(|mut of| of.remove(name)).collect(),
        };
        let of = |value: &Tensor| {
            let axis = if axis < 0 { axis + value.dim() as i64 } else { axis };
            usize::try_from(axis).ok().and_then(|at| value.size().get(at).copied())
        };
        let lengths: Vec<Option<i64>> = values.iter().map(of).collect();
        match lengths[..] {
            [Some(length), ..] if lengths.iter().all(|l| *l == Some(length)) => Ok(length),
            _ => Err(format!("the length of axis {axis} of `{name}`, over which it goes, is not known or that of the batch")),
        }
    }

    /// These values of what was read so far, on blank inputs of each batch that it runs with.
    fn observe(&mut self, names: &[&str]) -> Result<Vec<BTreeMap<String, Tensor>>, String> {
        self.runs += 1;
        if self.runs > MOST_RUNS {
            return Err(format!("more than {MOST_RUNS} conditions and lengths follow from shapes"));
        }
        let outputs = std::mem::take(&mut self.model.graph.outputs);
        let free = self.model.graph.inputs.iter().flat_map(|i| &i.shape).any(|d| matches!(d, sinter_model::Dim::Free(_)));
        let run = |batch: i64| -> Result<BTreeMap<String, Tensor>, String> {
            let mut seen = BTreeMap::new();
            let runner = Runner::new(&self.model).map_err(|e| e.to_string())?;
            let mut tap = |name: &str, value: &Tensor| {
                if names.contains(&name) {
                    seen.insert(name.to_string(), value.shallow_clone());
                }
                Ok(())
            };
            for info in &self.model.graph.inputs {
                elements(&info.concrete(batch), 4).map_err(|e| format!("input `{}`: {e}", info.name))?;
            }
            let inputs = blank_inputs(&self.model, batch);
            runner.run_tapped(&inputs, Mode::Predict, &mut tap).map_err(|e| e.to_string())?;
            Ok(seen)
        };
        let mut all = vec![tch::no_grad(|| run(1))];
        if free {
            all.extend([2, 3, 17].map(|batch| tch::no_grad(|| run(batch))));
        }
        self.model.graph.outputs = outputs;
        let failed = all.iter().find_map(|one| one.as_ref().err().cloned());
        let ran: Vec<_> = all.into_iter().flatten().collect();
        match failed.filter(|_| ran.is_empty()) {
            Some(reason) => Err(reason),
            None => Ok(ran),
        }
    }
}

fn graph<'a>(node: &'a NodeProto, key: &str) -> Result<&'a GraphProto, String> {
    node.attribute.iter().find(|a| a.name == key).and_then(|a| a.g.as_ref()).ok_or_else(|| format!("it has no `{key}`"))
}

fn data_decides(name: &str) -> String {
    format!("`{name}` depends on the data, and so does the number of its steps: a loop must be countable to be unrolled")
}

fn whole(value: &Tensor) -> Result<i64, String> {
    match to_i64s(value).map_err(|e| e.to_string())?[..] {
        [one] => Ok(one),
        ref many => Err(format!("one number is wanted where {} are", many.len())),
    }
}

fn truth(value: &Tensor) -> Result<bool, String> {
    whole(value).map(|one| one != 0)
}
