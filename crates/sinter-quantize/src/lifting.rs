//! Taking one layer to a higher precision.

use sinter_model::{Layer, Model, Quantizer};
use sinter_train::StageError;

use crate::activations::ActivationQuantizers;
use crate::config::Mode;
use crate::dynamic_nodes::undo;
use crate::formats::int8_channel;
use crate::weights::weight_params;

/// How far a layer is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Height {
    Eight,
    Float,
}

impl Height {
    pub fn name(self) -> &'static str {
        match self {
            Self::Eight => "8 bits",
            Self::Float => "float",
        }
    }
}

/// What lifting needs to know of the model as it was.
pub(crate) struct Lifting<'a> {
    pub mode: Mode,
    /// Before quantization, with the same layers.
    pub float: &'a Model,
    pub activations: Option<&'a ActivationQuantizers>,
}

impl Lifting<'_> {
    /// Lifts a layer's weight and what it reads; whether there was anything to lift.
    pub fn lift(&self, model: &mut Model, layer: &Layer, height: Height) -> Result<bool, StageError> {
        let at = StageError::weight(&layer.weight);
        let input = model.graph.nodes[layer.node].inputs[0].clone();
        let low = |bits: u8| height == Height::Float || bits < 8;
        let mut changed = false;
        if model.weight(&layer.weight)?.quantizer().is_some_and(|g| low(g.bits())) {
            if self.mode == Mode::Ptq {
                // Rounding and bias correction moved them.
                for name in [Some(&layer.weight), layer.bias.as_ref()].into_iter().flatten() {
                    let original = self.float.weight(name)?.latent().copy();
                    model.weight_mut(name)?.set_latent(original).map_err(&at)?;
                }
            }
            let weight = model.weight_mut(&layer.weight)?;
            weight.drop_quantizer();
            if height == Height::Eight {
                let value = weight.effective().map_err(&at)?.f_detach()?;
                let params = weight_params(layer.slot, &value, int8_channel(), weight.codebook().is_some(), None).map_err(&at)?;
                params.map_or(Ok(()), |p| weight.quantize(Quantizer::new(&p)?)).map_err(&at)?;
            }
            changed = true;
        }
        let readers = model.layers().into_iter().filter(|l| model.graph.nodes[l.node].inputs[0] == input);
        let others = readers.filter(|l| l.weight != layer.weight && model.weights[&l.weight].quantizer().is_some()).count();
        if let (Some(activations), Some(bits)) = (self.activations, model.activations.get(&input).map(|g| g.bits()))
            && low(bits)
            && (height == Height::Eight || others == 0)
        {
            match height {
                Height::Eight => activations.set(model, &input, 8)?,
                Height::Float => {
                    model.activations.remove(&input);
                }
            }
            changed = true;
        }
        if height == Height::Float {
            changed |= undo(model, layer);
        }
        Ok(changed)
    }
}
