//! Schemas as a page for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::passes::Pass;

const HEAD: &str = "# Reference

Every key of every file, every criterion, calibration, rounding, metric, pass and operator. `cargo xtask docs` writes this page from the
doc comments of the sources; `sinter schema` prints the same as JSON Schema, which editors with YAML support read (the schemas lie in
[`schema/`](schema)).
";

/// The page. Errors on a key that says nothing of itself.
pub fn page(schemas: &[Value], passes: &[Pass], operators: &Value) -> Result<String, String> {
    let mut page = Page { out: HEAD.to_string(), shown: BTreeSet::new(), silent: vec![] };
    for (title, schema) in ["A pipeline file", "A data file", "A target file", "A sweep file"].into_iter().zip(schemas) {
        let _ = write!(page.out, "\n## {title}\n");
        page.root(schema);
    }
    page.out +=
        "\n## Passes of `quantize`\n\nIn the order in which they run; `sinter plan` prints those that a pipeline comes to.\n";
    for pass in passes {
        let _ = write!(page.out, "\n### {}\n\n{}\n", pass.name, pass.about);
    }
    page.out += "\n## Operators\n\nWhat models may use, and which formats have it.\n\n| operator | ONNX | TFLite | C |\n|---|---|---|---|\n";
    for operator in operators.as_array().into_iter().flatten() {
        let mark = |key: &str| if operator[key] == true { "yes" } else { "" };
        let _ =
            writeln!(page.out, "| {} | yes | {} | {} |", operator["operator"].as_str().unwrap_or(""), mark("tflite"), mark("c"));
    }
    match page.silent.is_empty() {
        true => Ok(page.out),
        false => Err(format!("these keys have no doc comment: {}", page.silent.join(", "))),
    }
}

struct Page {
    out: String,
    /// Types that have their section.
    shown: BTreeSet<String>,
    silent: Vec<String>,
}

impl Page {
    fn root(&mut self, schema: &Value) {
        self.section(schema);
        let empty = Map::new();
        let types = schema["$defs"].as_object().unwrap_or(&empty);
        for (name, schema) in types {
            if is_section(schema) && self.shown.insert(name.clone()) {
                let _ = write!(self.out, "\n### {}\n", heading(name));
                self.section(schema);
            }
        }
    }

    /// What a type is: its words, its keys, its choices.
    fn section(&mut self, schema: &Value) {
        if let Some(text) = schema["description"].as_str() {
            let _ = write!(self.out, "\n{text}\n");
        }
        if let Some(keys) = schema["properties"].as_object() {
            self.keys(schema, keys);
        }
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            self.choice(choice, &schema["default"]);
        }
    }

    fn keys(&mut self, schema: &Value, keys: &Map<String, Value>) {
        if keys.is_empty() {
            return;
        }
        let required = schema["required"].as_array().or_else(|| schema["else"]["required"].as_array());
        let required: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        self.out += "\n| key | value | default | |\n|---|---|---|---|\n";
        for (key, value) in keys {
            let about = value["description"].as_str().or_else(|| schema_of_one(value)["description"].as_str()).unwrap_or("");
            if about.is_empty() && value.get("$ref").is_none() && !has_reference(value) {
                self.silent.push(format!("`{key}` of {}", schema["title"].as_str().unwrap_or("a type")));
            }
            let default = match (required.contains(&key.as_str()), value.get("default")) {
                (true, _) => "must be given".to_string(),
                (_, None | Some(Value::Null)) => String::new(),
                (_, Some(default)) => format!("`{}`", short(default)),
            };
            let _ = writeln!(self.out, "| `{key}` | {} | {} | {} |", cell(&kind(value)), cell(&default), cell(about));
        }
    }

    /// A name alone, or one with options under it.
    fn choice(&mut self, choice: &Value, default: &Value) {
        let about = choice["description"].as_str().unwrap_or("");
        if let Some(name) = choice["const"].as_str() {
            let usual = if default == name { " (the default)" } else { "" };
            let _ = write!(self.out, "\n**`{name}`**{usual}. {about}\n");
            return;
        }
        for name in choice["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = write!(self.out, "\n**`{name}`**. {about}\n");
        }
        // What is merely let through (`true`) stands beside every choice, and is told once.
        let told = choice["properties"].as_object().into_iter().flatten().filter(|(_, options)| !options.is_boolean());
        for (name, options) in told {
            match options["properties"].as_object() {
                Some(keys) => {
                    let _ = write!(self.out, "\nOptions of `{name}`:\n");
                    self.keys(options, keys);
                }
                None => {
                    let _ = write!(self.out, "\n**`{name}`**: {}. {about}\n", kind(options));
                }
            }
        }
    }
}

/// Of `anyOf: [something, null]` the something.
fn schema_of_one(value: &Value) -> &Value {
    let one = |v: &&Value| v["type"] != "null";
    value["anyOf"].as_array().and_then(|all| all.iter().find(one)).unwrap_or(value)
}

fn has_reference(value: &Value) -> bool {
    schema_of_one(value).get("$ref").is_some() || schema_of_one(&value["items"]).get("$ref").is_some()
}

/// Whether a type has enough to tell for a section.
fn is_section(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema.get("oneOf").is_some()
}

/// A type's name in words: `StructuredConfig` is `structured`.
fn heading(name: &str) -> String {
    let name = name.strip_suffix("Config").unwrap_or(name);
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

/// What a value is, in words.
fn kind(value: &Value) -> String {
    let one = schema_of_one(value);
    if let Some(name) = one["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let words = heading(name);
        return format!("[{words}](#{})", words.replace(' ', "-"));
    }
    if let Some(names) = one["enum"].as_array() {
        return names.iter().map(|n| format!("`{}`", short(n))).collect::<Vec<_>>().join(", ");
    }
    if let Some(all) = one["oneOf"].as_array() {
        return all.iter().filter_map(|c| c["const"].as_str()).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(all) = one["anyOf"].as_array() {
        return all.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let types: Vec<&str> = match &one["type"] {
        Value::String(s) => vec![s],
        Value::Array(all) => all.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => vec![],
    };
    let ends = match (one["minimum"].as_f64(), one["maximum"].as_f64()) {
        (Some(low), Some(high)) => format!(" from {low} to {high}"),
        (Some(low), None) => format!(" from {low}"),
        (None, Some(high)) => format!(" up to {high}"),
        (None, None) => String::new(),
    };
    let examples: Vec<String> = one["examples"].as_array().into_iter().flatten().map(|e| format!("`{}`", short(e))).collect();
    let such = if examples.is_empty() { String::new() } else { format!(" such as {}", examples.join(", ")) };
    let word = |t: &&str| match *t {
        "integer" => format!("whole number{ends}"),
        "number" => format!("number{ends}"),
        "boolean" => "`true` or `false`".to_string(),
        "string" => "text".to_string(),
        "array" => format!("list of {}", kind(&one["items"])),
        "object" => match one["additionalProperties"].is_object() {
            true => format!("names, each with a {}", kind(&one["additionalProperties"])),
            false => "keys".to_string(),
        },
        other => other.to_string(),
    };
    let words = types.iter().map(word).collect::<Vec<_>>().join(" or ");
    if words.is_empty() { "anything".to_string() } else { words + &such }
}

fn short(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Text that can't end a cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
