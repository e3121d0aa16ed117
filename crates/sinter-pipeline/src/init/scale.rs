//! Ways in which values are scaled before a model sees them.

use sinter_data::Split;

use crate::resolve::Plan;

/// One way.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    pub yaml: String,
    pub what: String,
    /// By the mean and the deviation of the data itself.
    pub is_own: bool,
}

/// The commonest ways for samples such as these, the plainest first. Samples without channels of images have one.
pub(super) fn scales(plan: &Plan, split: &Split, images: bool) -> Result<Vec<Scale>, String> {
    let (facts, _) = plan.values(split).map_err(|e| e.to_string())?;
    let Some(facts) = facts.first() else { return Ok(vec![]) };
    let channels = &facts.channels;
    let top = channels.iter().map(|c| c.high).fold(0.0, f64::max);
    let low = channels.iter().map(|c| c.low).fold(0.0, f64::min);
    if !images && (low < 0.0 || top > 255.0) {
        return Ok(vec![plain("{ divide: 1 }", "as they are")]);
    }
    // Images come as 0 to 1 already unless told otherwise; arrays as they are.
    let unit = if images || top > 2.0 { 255.0 } else { 1.0 };
    let mut all = Vec::new();
    if unit > 1.0 {
        all.push(plain("{ divide: 1 }", "from 0 to 255"));
    }
    all.push(plain(&format!("{{ divide: {unit} }}"), "from 0 to 1"));
    all.push(plain(&format!("{{ divide: {unit}, mean: [0.5], std: [0.5] }}"), "from -1 to 1"));
    let shaped = matches!(facts.shape[..], [1 | 3, _, _]);
    if channels.len() == 3 && shaped {
        let yaml = format!("{{ divide: {unit}, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }}");
        all.push(plain(&yaml, "scaled as for ImageNet"));
    }
    if !shaped {
        return Ok(all);
    }
    // What was seen is scaled to 0 to 1 of images, and not at all of arrays.
    let seen = if images { 1.0 } else { unit };
    let list = |value: &dyn Fn(usize) -> f64| {
        let each: Vec<String> = (0..channels.len()).map(|i| format!("{:.4}", value(i))).collect();
        each.join(", ")
    };
    let (mean, std) = (list(&|i| channels[i].mean / seen), list(&|i| (channels[i].std / seen).max(1e-3)));
    let yaml = format!("{{ divide: {unit}, mean: [{mean}], std: [{std}] }}");
    all.push(Scale { is_own: true, ..plain(&yaml, "to mean 0 and deviation 1 of these samples") });
    Ok(all)
}

fn plain(yaml: &str, what: &str) -> Scale {
    Scale { yaml: yaml.into(), what: what.into(), is_own: false }
}
