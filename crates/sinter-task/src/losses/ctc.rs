//! Connectionist temporal classification (Graves et al., 2006): the order of labels is known, and not where they begin.

use tch::{Kind, Reduction, Tensor};

use crate::error::TaskError;

/// The mean over samples, of each by its number of labels. `output` are logits or the logarithms of probabilities `[n, steps, classes]`, `labels` int64
/// `[n, most]`, below zero behind the end.
pub(crate) fn loss(output: &Tensor, labels: &Tensor, blank: i64, probabilities: bool) -> Result<Tensor, TaskError> {
    let logarithms = match probabilities {
        true => output.f_clamp_min(1e-9)?.f_log()?,
        false => output.f_log_softmax(-1, Kind::Float)?,
    };
    let (n, steps) = (output.size()[0], output.size()[1]);
    let lengths = labels.f_ge(0)?.f_sum_dim_intlist(1, false, Kind::Int64)?;
    let all = Tensor::f_full([n], steps, (Kind::Int64, output.device()))?;
    let by_step = logarithms.f_transpose(0, 1)?;
    Ok(Tensor::f_ctc_loss_tensor(&by_step, &labels.f_clamp_min(0)?, &all, &lengths, blank, Reduction::Mean, true)?)
}
