//! Recurrent layers: RNN, GRU, LSTM.

use std::sync::Arc;

use tch::Tensor;

use super::own;
use crate::attributes::Attributes;
use crate::axes::IoShapes;
use crate::error::{OpResult, invalid};
use crate::op::{Cost, Inputs, Mode, Operator, WeightSlot};

pub(super) const KINDS: &[&str] = &["GRU", "LSTM", "RNN"];

/// x `[steps, batch, input]` (or batch first with layout 1), w `[directions, gates * hidden, input]`,
/// r `[directions, gates * hidden, hidden]`, b `[directions, 2 * gates * hidden]`.
#[derive(Debug)]
struct Recurrent {
    kind: &'static str,
    hidden: i64,
    direction: String,
    activations: Vec<String>,
    clip: f64,
    batch_first: bool,
    linear_before_reset: bool,
    couple_forget: bool,
}

pub(super) fn parse(kind: &str, attributes: &Attributes) -> OpResult<Option<Arc<dyn Operator>>> {
    let Some(kind) = own(KINDS, kind) else { return Ok(None) };
    attributes.reject(&["activation_alpha", "activation_beta"])?;
    let direction = attributes.get_str("direction", "forward")?.to_string();
    if !["forward", "reverse", "bidirectional"].contains(&direction.as_str()) {
        invalid!("direction `{direction}` is not known");
    }
    let hidden = attributes.get_int("hidden_size", 0)?;
    if hidden < 1 {
        invalid!("hidden_size={hidden} should be at least 1");
    }
    let defaults: &[&str] = match kind {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let mut activations = attributes.strings("activations")?;
    if activations.is_empty() {
        let both = if direction == "bidirectional" { 2 } else { 1 };
        activations = (0..both).flat_map(|_| defaults.iter().map(|s| s.to_string())).collect();
    }
    Ok(Some(Arc::new(Recurrent {
        kind,
        hidden,
        direction,
        activations,
        clip: attributes.get_float("clip", 0.0)?,
        batch_first: attributes.get_int("layout", 0)? == 1,
        linear_before_reset: attributes.get_flag("linear_before_reset", false)?,
        couple_forget: attributes.get_flag("input_forget", false)?,
    })))
}

fn activate(name: &str, x: &Tensor) -> OpResult<Tensor> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "sigmoid" => x.f_sigmoid()?,
        "tanh" => x.f_tanh()?,
        "relu" => x.f_relu()?,
        "softsign" => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?,
        "softplus" => x.f_softplus()?,
        other => invalid!("activation `{other}` is not supported"),
    })
}

impl Recurrent {
    fn gates(&self) -> i64 {
        match self.kind {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        }
    }

    fn directions(&self) -> i64 {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }

    fn clipped(&self, x: Tensor) -> OpResult<Tensor> {
        if self.clip > 0.0 { Ok(x.f_clamp(-self.clip, self.clip)?) } else { Ok(x) }
    }

    /// One direction over all steps: the outputs `[steps, batch, hidden]` and the last states.
    fn run(&self, inputs: &Inputs, x: &Tensor, d: i64, lengths: Option<&Tensor>) -> OpResult<(Tensor, Tensor, Option<Tensor>)> {
        let n = self.hidden;
        let (w, r) = (inputs.get(1)?.f_select(0, d)?, inputs.get(2)?.f_select(0, d)?);
        let (steps, batch, _) = x.size3()?;
        let bias = inputs.opt(3).map(|b| b.f_select(0, d)).transpose()?;
        let split = self.gates() * n;
        let (wb, rb) = match &bias {
            Some(b) => (Some(b.f_narrow(0, 0, split)?), Some(b.f_narrow(0, split, split)?)),
            None => (None, None),
        };
        let state = |i: usize| -> OpResult<Tensor> {
            Ok(match inputs.opt(i) {
                Some(t) if self.batch_first => t.f_select(1, d)?,
                Some(t) => t.f_select(0, d)?,
                None => Tensor::f_zeros([batch, n], (x.kind(), x.device()))?,
            })
        };
        let mut h = state(5)?;
        let mut c = if self.kind == "LSTM" { Some(state(6)?) } else { None };
        let peephole = match inputs.opt(7).filter(|_| self.kind == "LSTM") {
            Some(p) => Some(p.f_select(0, d)?.f_chunk(3, 0)?),
            None => None,
        };
        let per = self.activations.len() / self.directions() as usize;
        let act = &self.activations[per * d as usize..];
        let reverse = self.direction == "reverse" || d == 1;
        let projected = x.f_matmul(&w.f_tr()?)?;
        let projected = match &wb {
            Some(b) => projected.f_add(b)?,
            None => projected,
        };
        let rt = r.f_tr()?;
        let mut outputs: Vec<Option<Tensor>> = (0..steps).map(|_| None).collect();
        for s in 0..steps {
            let at = if reverse { steps - 1 - s } else { s };
            let xs = projected.f_select(0, at)?;
            let (new_h, new_c) = self.step(&xs, &h, c.as_ref(), &rt, rb.as_ref(), peephole.as_deref(), act)?;
            // Past the end of a sequence the state stands still and the output is zero.
            let live = match lengths {
                Some(lengths) => Some(lengths.f_gt(at)?.f_unsqueeze(-1)?),
                None => None,
            };
            match live {
                Some(live) => {
                    outputs[at as usize] = Some(new_h.f_where_self(&live, &new_h.f_zeros_like()?)?);
                    h = new_h.f_where_self(&live, &h)?;
                    c = match (new_c, c) {
                        (Some(new), Some(old)) => Some(new.f_where_self(&live, &old)?),
                        _ => None,
                    };
                }
                None => {
                    outputs[at as usize] = Some(new_h.shallow_clone());
                    (h, c) = (new_h, new_c);
                }
            }
        }
        let outputs: Vec<Tensor> = outputs.into_iter().flatten().collect();
        Ok((Tensor::f_stack(&outputs, 0)?, h, c))
    }

    #[allow(clippy::too_many_arguments)]
    fn step(
        &self,
        xs: &Tensor,
        h: &Tensor,
        c: Option<&Tensor>,
        rt: &Tensor,
        rb: Option<&Tensor>,
        peephole: Option<&[Tensor]>,
        act: &[String],
    ) -> OpResult<(Tensor, Option<Tensor>)> {
        let n = self.hidden;
        let name = |i: usize| act.get(i).map_or("", String::as_str);
        let add = |t: Tensor, b: Option<Tensor>| -> OpResult<Tensor> {
            Ok(match b {
                Some(b) => t.f_add(&b)?,
                None => t,
            })
        };
        match (self.kind, c) {
            ("LSTM", Some(c)) => {
                let all = add(xs.f_add(&h.f_matmul(rt)?)?, rb.map(|b| b.shallow_clone()))?;
                let gate = |i: i64| all.f_narrow(1, i * n, n);
                let peek = |i: usize, state: &Tensor, gate: Tensor| -> OpResult<Tensor> {
                    Ok(match peephole {
                        Some(p) => gate.f_add(&state.f_mul(&p[i])?)?,
                        None => gate,
                    })
                };
                // ONNX's order of gates: input, output, forget, cell.
                let i = activate(name(0), &self.clipped(peek(0, c, gate(0)?)?)?)?;
                let f = if self.couple_forget {
                    i.f_neg()?.f_add_scalar(1.0)?
                } else {
                    activate(name(0), &self.clipped(peek(2, c, gate(2)?)?)?)?
                };
                let g = activate(name(1), &self.clipped(gate(3)?)?)?;
                let c = f.f_mul(c)?.f_add(&i.f_mul(&g)?)?;
                let o = activate(name(0), &self.clipped(peek(1, &c, gate(1)?)?)?)?;
                Ok((o.f_mul(&activate(name(2), &c)?)?, Some(c)))
            }
            ("GRU", _) => {
                let part = |t: &Tensor, from: i64, count: i64| t.f_narrow(t.dim() as i64 - 1, from * n, count * n);
                let zr = add(part(xs, 0, 2)?.f_add(&h.f_matmul(&part(rt, 0, 2)?)?)?, rb.map(|b| part(b, 0, 2)).transpose()?)?;
                let zr = activate(name(0), &self.clipped(zr)?)?;
                let (z, reset) = (part(&zr, 0, 1)?, part(&zr, 1, 1)?);
                let rbh = rb.map(|b| part(b, 2, 1)).transpose()?;
                let hidden = if self.linear_before_reset {
                    add(h.f_matmul(&part(rt, 2, 1)?)?, rbh)?.f_mul(&reset)?
                } else {
                    add(reset.f_mul(h)?.f_matmul(&part(rt, 2, 1)?)?, rbh)?
                };
                let candidate = activate(name(1), &self.clipped(part(xs, 2, 1)?.f_add(&hidden)?)?)?;
                let new = z.f_neg()?.f_add_scalar(1.0)?.f_mul(&candidate)?.f_add(&z.f_mul(h)?)?;
                Ok((new, None))
            }
            _ => {
                let all = add(xs.f_add(&h.f_matmul(rt)?)?, rb.map(|b| b.shallow_clone()))?;
                Ok((activate(name(0), &self.clipped(all)?)?, None))
            }
        }
    }
}

impl Operator for Recurrent {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn forward(&self, inputs: &Inputs, _mode: Mode) -> OpResult<Vec<Tensor>> {
        let x = inputs.get(0)?;
        let x = if self.batch_first { x.f_transpose(0, 1)? } else { x.shallow_clone() };
        let lengths = inputs.opt(4);
        let (mut ys, mut hs, mut cs) = (vec![], vec![], vec![]);
        for d in 0..self.directions() {
            let (y, h, c) = self.run(inputs, &x, d, lengths)?;
            ys.push(y);
            hs.push(h);
            cs.extend(c);
        }
        // y: [steps, directions, batch, hidden]; states: [directions, batch, hidden].
        let mut outputs = vec![Tensor::f_stack(&ys, 1)?, Tensor::f_stack(&hs, 0)?];
        if !cs.is_empty() {
            outputs.push(Tensor::f_stack(&cs, 0)?);
        }
        if self.batch_first {
            outputs[0] = outputs[0].f_permute([2, 0, 1, 3])?;
            for state in &mut outputs[1..] {
                *state = state.f_transpose(0, 1)?;
            }
        }
        Ok(outputs)
    }

    fn cost(&self, shapes: &IoShapes) -> Cost {
        let size = |i: usize| shapes.input_len(i);
        let steps = match shapes.inputs.first() {
            Some(Some(x)) if x.len() == 3 => (x[0] * x[1]) as u64,
            _ => 0,
        };
        Cost { macs: steps * (size(1) + size(2)), other: steps * size(2) / self.hidden.max(1) as u64 }
    }

    fn weights(&self, _shapes: &IoShapes) -> Vec<WeightSlot> {
        [1, 2].map(|input| WeightSlot { input, bias: None, out_axis: 1, in_axis: 2 }).to_vec()
    }

    fn is_recurrent(&self) -> bool {
        true
    }
}
