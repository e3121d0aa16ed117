//! The space of a sweep: what is varied of a pipeline, and between which values.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::values::{Axis, Values, number};

/// One thing that is varied: a list of choices, choices with a condition, or a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected choices, as in `[8, 16]`, or a range, as in `{ from: 50%, to: 90% }`")]
pub enum Domain {
    /// Any of these.
    List(Vec<Value>),
    /// Any of some values, where a condition holds.
    Choices(Choices),
    /// Any value between two.
    Range(Range),
}

/// Any of some values, where a condition holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// The values; of a whole stage `[on, off]`.
    pub choices: Vec<Value>,
    /// Only where other keys of the space have these values. Default: always.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Value>,
}

/// Any value between two, ends included. Whole numbers where both ends are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least: a number or a share such as `50%`.
    pub from: Value,
    /// The greatest.
    pub to: Value,
    /// Steps between values. Default: 1 between whole numbers, else any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Value>,
    /// Even on a logarithmic scale. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Only where other keys of the space have these values. Default: always.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Value>,
}

/// What is wrong with a space, and at which of its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SpaceError {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub help: String,
}

/// One thing that is varied.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// The key of the pipeline, as `--set` has it.
    pub key: String,
    /// What it can be.
    pub values: Values,
    /// It is there only where other parameters (by their place in the space) are at one of these places.
    pub when: Vec<(usize, BTreeSet<usize>)>,
}

/// What is varied; what a condition asks for stands before what depends on it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space {
    /// All of it.
    pub parameters: Vec<Parameter>,
}

/// A recipe: where each parameter of the space stands, `None` where its condition does not hold. Of choices the number of the choice, of an axis from
/// 0 to 1.
pub type Point = Vec<Option<f64>>;

/// Steps that are counted one by one.
const MOST_STEPS: f64 = 1e6;

/// Off: the whole stage is left out.
const OFF: &str = "off";
const ON: &str = "on";

impl Space {
    /// Reads a space; says what can't be meant.
    pub fn new(domains: &BTreeMap<String, Domain>) -> Result<Self, SpaceError> {
        if domains.is_empty() {
            return Err(fault(
                "",
                "nothing is varied",
                "name keys as `--set` does, such as `stages.prune.unstructured.sparsity: [50%, 70%]`",
            ));
        }
        if let Some(own) = domains.keys().find(|key| ["seed", "name", "extends", "vars"].contains(&key.as_str())) {
            let help = "the sweep's own `seed` is that of every trial, and finalists have others";
            return Err(fault(own, format!("`{own}` can't be varied"), help));
        }
        let mut parameters = Vec::new();
        let mut waiting: Vec<(&String, &Domain)> = domains.iter().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut later = Vec::new();
            for (key, domain) in waiting {
                let conditions = conditions(key, domain, domains)?;
                match conditions.iter().all(|(other, _)| parameters.iter().any(|p: &Parameter| p.key == *other)) {
                    true => parameters.push(parameter(key, domain, &conditions, &parameters)?),
                    false => later.push((key, domain)),
                }
            }
            if later.len() == before {
                return Err(fault(later[0].0, "its condition depends on itself", "a key can't be varied where it is varied"));
            }
            waiting = later;
        }
        Ok(Self { parameters })
    }

    /// Whether a parameter is there, given those that stand before it.
    pub fn is_active(&self, point: &[Option<f64>], at: usize) -> bool {
        let held = |(other, places): &(usize, BTreeSet<usize>)| {
            point
                .get(*other)
                .copied()
                .flatten()
                .is_some_and(|place| places.contains(&self.parameters[*other].values.index(place)))
        };
        self.parameters[at].when.iter().all(held)
    }

    /// A point as it is once it was written down and read again: what is tried, and compared. `None` where its words lie outside of the space.
    pub fn settled(&self, point: &Point) -> Option<Point> {
        self.point(&self.values(point))
    }

    /// A point whose parameters `place` chooses one after the other, each only where it is there.
    pub fn draw(&self, mut place: impl FnMut(usize, &Values) -> f64) -> Point {
        let mut point: Point = Vec::with_capacity(self.parameters.len());
        for (at, parameter) in self.parameters.iter().enumerate() {
            let value = self.is_active(&point, at).then(|| parameter.values.nearest(place(at, &parameter.values)));
            point.push(value);
        }
        point
    }

    /// The number of all points, where it is finite: those that conditions make the same are counted apart.
    pub fn size(&self) -> Option<u128> {
        self.parameters.iter().try_fold(1u128, |all, p| all.checked_mul(p.values.count()? as u128))
    }

    /// A point in words: the values as they are written, by key.
    pub fn values(&self, point: &Point) -> BTreeMap<String, String> {
        let each = self.parameters.iter().zip(point);
        each.filter_map(|(parameter, place)| Some((parameter.key.clone(), parameter.values.text((*place)?)))).collect()
    }

    /// The point of such words; `None` for one outside of the space.
    pub fn point(&self, values: &BTreeMap<String, String>) -> Option<Point> {
        let mut point: Point = Vec::new();
        let mut used = 0;
        for (at, parameter) in self.parameters.iter().enumerate() {
            let place = match (values.get(&parameter.key), self.is_active(&point, at)) {
                (Some(text), true) => {
                    used += 1;
                    Some(parameter.values.place(text)?)
                }
                (None, false) => None,
                _ => return None,
            };
            point.push(place);
        }
        (used == values.len()).then_some(point)
    }

    /// What `--set` makes a recipe of a pipeline.
    pub fn changes(values: &BTreeMap<String, String>) -> Vec<String> {
        let change = |(key, value): (&String, &String)| match (stage_of(key), value.as_str()) {
            (Some(_), ON) => None,
            (Some(_), OFF) => Some(format!("{key}=~")),
            _ => Some(format!("{key}={value}")),
        };
        values.iter().filter_map(change).collect()
    }
}

/// The stage that a key names, if it names a whole one.
fn stage_of(key: &str) -> Option<&str> {
    key.strip_prefix("stages.").filter(|stage| !stage.contains('.'))
}

fn fault(key: &str, reason: impl Into<String>, help: impl Into<String>) -> SpaceError {
    SpaceError { key: key.to_string(), reason: reason.into(), help: help.into() }
}

/// The keys that have to have some value for this one to be there: those that it names, and the stage that it stands in.
fn conditions(key: &str, domain: &Domain, all: &BTreeMap<String, Domain>) -> Result<Vec<(String, Value)>, SpaceError> {
    let when = match domain {
        Domain::List(_) => &BTreeMap::new(),
        Domain::Choices(choices) => &choices.when,
        Domain::Range(range) => &range.when,
    };
    let mut conditions: Vec<(String, Value)> = when.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some((other, _)) = conditions.iter().find(|(other, _)| !all.contains_key(other)) {
        let known: Vec<&str> = all.keys().map(String::as_str).collect();
        return Err(fault(
            key,
            format!("`when` names `{other}`, which is not varied"),
            format!("varied are {}", known.join(", ")),
        ));
    }
    let stage = key.strip_prefix("stages.").and_then(|rest| rest.split_once('.')).map(|(stage, _)| format!("stages.{stage}"));
    conditions.extend(stage.filter(|stage| all.contains_key(stage)).map(|stage| (stage, Value::from(ON))));
    Ok(conditions)
}

fn parameter(key: &str, domain: &Domain, conditions: &[(String, Value)], before: &[Parameter]) -> Result<Parameter, SpaceError> {
    let values = match domain {
        Domain::List(choices) | Domain::Choices(Choices { choices, .. }) => {
            let texts: Vec<String> = choices.iter().map(written).collect();
            if texts.is_empty() {
                return Err(fault(key, "there is nothing to choose from", "give two values or more"));
            }
            if let Some(twice) = texts.iter().enumerate().find(|(i, t)| texts[..*i].contains(t)) {
                return Err(fault(key, format!("`{}` stands there twice", twice.1), "give each value once"));
            }
            if stage_of(key).is_some() && texts.iter().any(|t| ![ON, OFF].contains(&t.as_str())) {
                return Err(fault(key, "a whole stage is `on` or `off`", "write `[on, off]`, or vary a key of the stage"));
            }
            Values::Choices(texts)
        }
        Domain::Range(range) => Values::Axis(axis(key, range)?),
    };
    let mut when = Vec::new();
    for (other, value) in conditions {
        let Some(at) = before.iter().position(|p| p.key == *other) else { continue };
        let wanted: Vec<String> = match value {
            Value::Array(several) => several.iter().map(written).collect(),
            one => vec![written(one)],
        };
        if before[at].values.count().is_none() {
            let help = "give the other range a `step`, or choices";
            return Err(fault(key, format!("`when` names `{other}`, which can be any value of a range"), help));
        }
        let mut places = BTreeSet::new();
        for text in wanted {
            let reached = before[at].values.place(&text).filter(|place| before[at].values.is_at(*place, &text));
            let Some(place) = reached else {
                return Err(fault(
                    key,
                    format!("`when` wants `{other}` to be `{text}`, which it never is"),
                    format!("it is {}", before[at].values),
                ));
            };
            places.insert(before[at].values.index(place));
        }
        when.push((at, places));
    }
    Ok(Parameter { key: key.to_string(), values, when })
}

/// A value as it is written after `--set KEY=`.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "true" } else { "false" }.to_string(),
        other => other.to_string(),
    }
}

fn axis(key: &str, range: &Range) -> Result<Axis, SpaceError> {
    let help = "write `{ from: 50%, to: 90% }`, `{ from: 1e-4, to: 1e-2, log: true }` or `{ from: 4, to: 16, step: 4 }`";
    let read =
        |value: &Value| number(value).ok_or_else(|| fault(key, format!("`{}` is no number and no share", written(value)), help));
    let ((low, percent), (high, other)) = (read(&range.from)?, read(&range.to)?);
    if percent != other {
        return Err(fault(key, "one end is a share, the other a number", help));
    }
    if low >= high {
        let (from, to) = (written(&range.from), written(&range.to));
        return Err(fault(key, format!("the range from {from} to {to} holds nothing"), "`from` is the smaller end"));
    }
    if !(high - low).is_finite() {
        return Err(fault(key, "the range is too long for numbers to tell its values apart", "move its ends together"));
    }
    if range.log && low <= 0.0 {
        return Err(fault(key, "a logarithmic range begins above 0", help));
    }
    let is_whole = |value: &Value| matches!(value, Value::Number(n) if n.is_i64());
    let whole = is_whole(&range.from) && is_whole(&range.to);
    let step = match &range.step {
        Some(step) if whole && !is_whole(step) => {
            let help = "write the ends as `0.0` to have fractions between them";
            return Err(fault(key, "steps between whole numbers are whole", help));
        }
        Some(step) => match read(step)? {
            (step, share) if share == percent => Some(step),
            _ => return Err(fault(key, "the ends and the step are not both shares or both numbers", help)),
        },
        None => whole.then_some(1.0),
    };
    if let Some(step) = step {
        if !(step > 0.0 && step <= high - low) {
            let help = "`step` is above 0 and at most the length of the range";
            return Err(fault(key, format!("steps of {step} do not fit between the ends"), help));
        }
        if (high - low) / step > MOST_STEPS {
            let help = "give a longer `step`; without one, between numbers such as `0.0` and `1.0`, any value is tried";
            return Err(fault(key, "there are more than a million steps between the ends", help));
        }
    }
    Ok(Axis { low, high, step, log: range.log, percent })
}
