//! What a certificate says of ranges, against ends that are known by hand: operators that move, mix or share what inputs stand for.

use sinter_certify::{Certificate, Reference, certify};
use sinter_model::zoo::Builder;
use sinter_model::{Attributes, Levels, Model, Node, QuantParams, Quantizer, Role, Weight};
use tch::Tensor;

/// A graph of these nodes: `input` and, where it is named, `other` are of one shape; the last result is the output. Inputs hold -1 to 1, the output
/// `holds`.
fn model(shape: &[i64], nodes: Vec<Node>, stored: &[(&str, Tensor)], holds: f32) -> Model {
    let mut model = Builder::new("m", shape, 1).finish("input").unwrap();
    if nodes.iter().any(|n| n.inputs.iter().any(|i| i == "other")) {
        let mut other = model.graph.inputs[0].clone();
        other.name = "other".into();
        model.graph.inputs.push(other);
    }
    model.graph.outputs[0].name = nodes.last().unwrap().outputs[0].clone();
    model.graph.nodes = nodes;
    for (name, value) in stored {
        model.weights.insert(name.to_string(), Weight::new(Role::Constant, value.shallow_clone()));
    }
    let quantizer = |most: f32| Quantizer::new(&QuantParams::affine(8, Levels::Signed, -most, most).unwrap()).unwrap();
    for input in &model.graph.inputs {
        model.activations.insert(input.name.clone(), quantizer(1.0));
    }
    model.activations.insert(model.graph.outputs[0].name.clone(), quantizer(holds));
    model
}

fn node(kind: &str, attributes: Attributes, inputs: &[&str], output: &str) -> Node {
    Node::new(output, kind, attributes, inputs.iter().map(|s| s.to_string()).collect(), vec![output.into()]).unwrap()
}

fn reaches(certificate: &Certificate) -> ((f64, f64), bool) {
    let range = certificate.ranges.iter().find(|r| r.value == "y").unwrap_or_else(|| panic!("no range: {certificate}"));
    (range.reaches, range.saturates)
}

#[test]
fn ranges_hold_what_is_known_by_hand() {
    let none = Attributes::new;
    let scalar = Tensor::from(3.0f32);
    let cases: Vec<(&str, Model, (f64, f64))> = vec![
        ("two inputs", model(&[4], vec![node("Sub", none(), &["input", "other"], "y")], &[], 1.5), (-2.0, 2.0)),
        ("one input twice", model(&[4], vec![node("Add", none(), &["input", "input"], "y")], &[], 1.5), (-2.0, 2.0)),
        (
            "a stored scalar",
            model(&[3, 4], vec![node("Add", none(), &["input", "three"], "y")], &[("three", scalar)], 2.0),
            (2.0, 4.0),
        ),
        ("all axes", model(&[4], vec![node("ReduceMean", none(), &["input"], "y")], &[], 0.5), (-1.0, 1.0)),
        (
            "the batch moves",
            model(&[3, 4], vec![node("Transpose", none().ints("perm", &[1, 0, 2]), &["input"], "y")], &[], 0.5),
            (-1.0, 1.0),
        ),
        (
            "the batch moves, then sums",
            model(
                &[3, 4],
                vec![
                    node("Transpose", none().ints("perm", &[1, 0, 2]), &["input"], "t"),
                    node("Add", none(), &["t", "input"], "y"),
                ],
                &[],
                0.5,
            ),
            (-2.0, 2.0),
        ),
        (
            "ranks differ",
            model(
                &[3, 4],
                vec![
                    node("ReduceMean", none().ints("axes", &[1]).int("keepdims", 0), &["input"], "m"),
                    node("Add", none(), &["m", "input"], "y"),
                ],
                &[],
                0.5,
            ),
            (-2.0, 2.0),
        ),
    ];
    for (what, model, (low, high)) in cases {
        let certificate = certify(&model, None, &[Reference::Unrounded]).unwrap();
        let (found, saturates) = reaches(&certificate);
        // Each of two inputs holds an end to half a step.
        let step = 2.0 / 255.0;
        assert!(found.0 <= low + step && found.1 >= high - step, "{what}: {found:?}, but {low} to {high} is reached");
        assert!(found.0 >= low - 0.1 && found.1 <= high + 0.1, "{what}: {found:?} is far from {low} to {high}");
        assert!(saturates, "{what}");
    }
}

/// A falling operator is not taken for a rising one, and what fails behind the sums leaves them standing.
#[test]
fn what_is_not_known_is_said() {
    let falls = model(&[4], vec![node("HardSigmoid", Attributes::new().float("alpha", -1.0), &["input"], "y")], &[], 1.0);
    let certificate = certify(&falls, None, &[Reference::Unrounded]).unwrap();
    assert!(certificate.ranges.iter().all(|r| r.value != "y"), "{certificate}");
    assert!(certificate.unknown.iter().any(|u| u.contains("HardSigmoid")), "{certificate}");

    let mut free = model(&[4], vec![node("Relu", Attributes::new(), &["input"], "y")], &[], 1.0);
    free.activations.remove("input");
    let certificate = certify(&free, None, &[Reference::Unrounded]).unwrap();
    assert!(certificate.inputs.is_none() && certificate.ranges.is_empty(), "{certificate}");
    assert!(certificate.unknown.iter().any(|u| u.contains("not quantized")), "{certificate}");
}
