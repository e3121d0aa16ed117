//! What holds of the integer model for every input; a model whose sums can wrap is not exported.

use sinter_certify::{Certificate, Reference, certify};
use sinter_model::{Model, write_whole};
use sinter_report::{CertificateRow, CertificateTable};
use sinter_train::Event;

use super::{ArtefactError, Writer};

impl Writer<'_> {
    /// Certifies the result where integer kernels compute some of it. Errors where a sum can leave 32 bits: no file shall hold such a model.
    pub(super) fn certify(&mut self) -> Result<(), ArtefactError> {
        let model = self.result.model;
        if model.activations.is_empty() {
            return Ok(());
        }
        let certificate = match certify(model, None, &self.reference()) {
            Ok(certificate) => certificate,
            Err(error) => {
                (self.events)(Event::Note { text: format!("not certified: {error}") });
                return Ok(());
            }
        };
        if let Some(layer) = certificate.layers.iter().find(|l| !l.sums.fits()) {
            let wrap = layer.sums.wraps.clone();
            let (channel, sum) = wrap.map_or((0, 0), |w| (w.channel, w.sum));
            return Err(ArtefactError::Wraps { layer: layer.layer.clone(), channel, sum });
        }
        let text =
            serde_json::to_vec_pretty(&certificate).map_err(|e| ArtefactError::io(&self.place("certificate.json"))(e.into()))?;
        write_whole(&self.place("certificate.json"), &text)?;
        (self.events)(Event::Note { text: certificate.summary() });
        self.done.certificate = Some(table(&certificate));
        self.add("certificate.json", "What holds for every input: sums, rounding, ranges and the distance from float")
    }
}

impl Writer<'_> {
    /// The float model, where the result is of its shape; else the model as it was before it was quantized; else the result itself.
    fn reference(&self) -> Reference {
        let float = |model: &Model, name: String| Reference::Float { model: Box::new(model.copy()), name };
        let before = self.before.map(|(stage, model)| float(model, format!("the model before `{stage}`")));
        let all = [Some(float(self.float.model, "the float model".into())), before];
        let fits = |reference: &Reference| reference.fits(self.result.model).is_ok();
        all.into_iter().flatten().find(fits).unwrap_or(Reference::Unrounded)
    }
}

/// The certificate as the report tells it.
fn table(certificate: &Certificate) -> CertificateTable {
    let layers = certificate.layers.iter().map(|l| CertificateRow {
        layer: l.layer.clone(),
        low: l.sums.low,
        high: l.sums.high,
        bits: l.sums.bits,
        rounding: l.requantization.as_ref().map(|r| {
            let differ =
                r.differ.iter().map(|d| format!("{}: {} of {} sums, {} steps at most", d.kernel, d.sums, r.sums, d.steps));
            differ.collect::<Vec<_>>().join("; ")
        }),
    });
    CertificateTable { summary: certificate.summary(), layers: layers.collect(), notes: certificate.unknown.clone() }
}
