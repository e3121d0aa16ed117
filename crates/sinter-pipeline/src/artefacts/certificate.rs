//! What holds of the integer model for every input; a model whose sums can wrap is not exported.

use sinter_certify::{Certificate, Reference, certify};
use sinter_model::write_whole;
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
        // The float model, where the result is of its shape; else as it was before its values were quantized; else the result itself.
        let before = (self.before)();
        let mut references = vec![Reference::Float { model: self.float.model, name: "the float model".into() }];
        references.extend(
            before.as_ref().map(|(stage, model)| Reference::Float { model, name: format!("the model before `{stage}`") }),
        );
        references.push(Reference::Unrounded);
        let certificate = match certify(model, None, &references) {
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
