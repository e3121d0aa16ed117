//! Bodies of functions, branches and loops, put in the place where they are used.
//!
//! Names of a body are its own, and a loop uses its body more than once: whatever a body defines has a free name where it is used.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, ValueInfoProto};
use crate::reader::Reader;

/// Bodies within bodies.
const DEEPEST: usize = 64;
/// Nodes of a model whose loops are unrolled.
const MOST_NODES: usize = 200_000;

/// Names within a body, and what they are called where it is used.
pub(crate) type Names = BTreeMap<String, String>;

fn renamed(names: &Names, name: &str) -> String {
    names.get(name).cloned().unwrap_or_else(|| name.to_string())
}

/// Renames what a node reads, and what graphs within it read from around them.
fn rename_inputs(node: &mut NodeProto, names: &Names) {
    node.input.iter_mut().for_each(|input| *input = renamed(names, input));
    for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
        let own: HashSet<String> = defined(graph).map(String::from).collect();
        let outer: Names = names.iter().filter(|(name, _)| !own.contains(*name)).map(|(a, b)| (a.clone(), b.clone())).collect();
        graph.node.iter_mut().for_each(|inner| rename_inputs(inner, &outer));
        graph.output.iter_mut().for_each(|output| output.name = renamed(&outer, &output.name));
    }
}

/// The values that a graph defines, not those of graphs within it.
pub(crate) fn defined(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let values = graph.initializer.iter().map(|t| &t.name).chain(graph.input.iter().map(|v| &v.name));
    values.chain(graph.node.iter().flat_map(|n| &n.output)).map(String::as_str)
}

/// The values of a graph and of all graphs within it.
pub(crate) fn all_defined<'a>(graph: &'a GraphProto, into: &mut Vec<&'a str>) {
    into.extend(defined(graph));
    let inner = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.g.as_ref());
    inner.for_each(|inner| all_defined(inner, into));
}

/// The values of a function and of all graphs within it.
pub(crate) fn all_in_function<'a>(function: &'a FunctionProto, into: &mut Vec<&'a str>) {
    into.extend(function.node.iter().flat_map(|n| &n.output).map(String::as_str));
    let inner = function.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.g.as_ref());
    inner.for_each(|inner| all_defined(inner, into));
}

impl Reader<'_> {
    /// A name that no value has, derived from one.
    pub(crate) fn fresh(&mut self, hint: &str) -> String {
        let Self { model, values, nested, .. } = self;
        // A body may be called by its own names once, and never by those of another.
        values.free(hint, |name| model.weights.contains_key(name) || (name != hint && nested.contains(name)))
    }

    /// Adds the nodes of a body that reads `given` and whose results are called `wanted`; empty names are results that nobody wants. What it defines is
    /// named as there, behind `prefix`.
    pub(crate) fn splice(&mut self, body: &GraphProto, given: &[String], wanted: &[String], prefix: &str) -> Result<(), String> {
        self.splice_with(body, given, wanted, prefix, Names::new())
    }

    /// Counts nodes that were added. Errors where there are too many.
    pub(crate) fn count(&mut self, more: usize) -> Result<(), String> {
        self.inlined += more;
        match self.inlined > MOST_NODES {
            true => Err(format!("with its loops unrolled the model would have more than {MOST_NODES} nodes")),
            false => Ok(()),
        }
    }

    /// The tensors of a body stored once for all its steps: the body without them, and their names.
    pub(crate) fn stored_once(&mut self, body: &GraphProto) -> Result<(GraphProto, Names), String> {
        let mut names = Names::new();
        for tensor in &body.initializer {
            let name = self.fresh(&tensor.name);
            self.store(&name, tensor).map_err(|e| e.to_string())?;
            names.insert(tensor.name.clone(), name);
        }
        Ok((GraphProto { initializer: vec![], ..body.clone() }, names))
    }

    /// The same, with names that are known already.
    pub(crate) fn splice_with(
        &mut self,
        body: &GraphProto,
        given: &[String],
        wanted: &[String],
        prefix: &str,
        known: Names,
    ) -> Result<(), String> {
        if given.len() != body.input.len() || wanted.len() > body.output.len() {
            let (takes, gives) = (body.input.len(), body.output.len());
            return Err(format!(
                "its body takes {takes} values and gives {gives}, but is given {} and asked for {}",
                given.len(),
                wanted.len()
            ));
        }
        self.count(body.node.len())?;
        let mut names = known;
        names.extend(body.input.iter().map(|i| i.name.clone()).zip(given.iter().cloned()));
        for tensor in &body.initializer {
            let name = self.fresh(&format!("{prefix}{}", tensor.name));
            self.store(&name, tensor).map_err(|e| e.to_string())?;
            names.insert(tensor.name.clone(), name);
        }
        let made: BTreeSet<&String> = body.node.iter().flat_map(|n| &n.output).filter(|o| !o.is_empty()).collect();
        for (output, name) in body.output.iter().zip(wanted).filter(|(_, name)| !name.is_empty()) {
            if made.contains(&output.name) && !names.contains_key(&output.name) {
                names.insert(output.name.clone(), name.clone());
            }
        }
        let mut nodes = body.node.clone();
        for node in &mut nodes {
            rename_inputs(node, &names);
            for output in node.output.iter_mut().filter(|o| !o.is_empty()) {
                let name = match names.get(output) {
                    Some(name) => name.clone(),
                    None => self.fresh(&format!("{prefix}{output}")),
                };
                names.insert(std::mem::replace(output, name.clone()), name);
            }
            if !node.name.is_empty() {
                node.name = format!("{prefix}{}", node.name);
            }
        }
        if self.depth >= DEEPEST {
            return Err(format!("more than {DEEPEST} functions, branches and loops lie in one another"));
        }
        self.depth += 1;
        let added = self.add_all(&nodes);
        self.depth -= 1;
        added?;
        for (output, name) in body.output.iter().zip(wanted).filter(|(_, name)| !name.is_empty()) {
            let from = renamed(&names, &output.name);
            if from != *name {
                self.add_simple("Identity", &[&from], name, &[])?;
            }
        }
        Ok(())
    }

    /// Adds the nodes of the function that a node calls; `false` where it calls none.
    pub(crate) fn call(&mut self, node: &NodeProto) -> Result<bool, String> {
        let same = |f: &&FunctionProto| f.name == node.op_type && f.domain == node.domain && f.overload == node.overload;
        let Some(function) = self.functions.iter().find(same).cloned() else { return Ok(false) };
        let value = |name: &String| ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
        let mut body = GraphProto {
            node: function.node,
            input: function.input.iter().map(value).collect(),
            output: function.output.iter().map(value).collect(),
            ..GraphProto::default()
        };
        let given = |name: &str| node.attribute.iter().chain(&function.attribute_proto).find(|a| a.name == name).cloned();
        body.node.iter_mut().for_each(|inner| fill_attributes(&mut inner.attribute, &given));
        let mut inputs = node.input.clone();
        if inputs.len() > body.input.len() {
            return Err(format!("function `{}` takes {} inputs, {} are given", function.name, body.input.len(), inputs.len()));
        }
        inputs.resize(body.input.len(), String::new());
        let version = function.opset_import.iter().find(|o| matches!(o.domain.as_str(), "" | "ai.onnx")).map(|o| o.version);
        let before = self.opset;
        self.opset = version.unwrap_or(before);
        let prefix = if node.name.is_empty() { &node.op_type } else { &node.name };
        let done = self.splice(&body, &inputs, &node.output, &format!("{prefix}/"));
        self.opset = before;
        done.map(|()| true)
    }
}

/// Puts what a call gives in the place of references to attributes of the function; one that it does not give is left out.
fn fill_attributes(attributes: &mut Vec<AttributeProto>, given: &dyn Fn(&str) -> Option<AttributeProto>) {
    attributes.retain_mut(|attribute| {
        if attribute.ref_attr_name.is_empty() {
            if let Some(graph) = &mut attribute.g {
                graph.node.iter_mut().for_each(|node| fill_attributes(&mut node.attribute, given));
            }
            return true;
        }
        let Some(value) = given(&attribute.ref_attr_name) else { return false };
        *attribute = AttributeProto { name: attribute.name.clone(), ..value };
        true
    });
}
