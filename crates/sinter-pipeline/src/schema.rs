//! JSON Schemas of the files that users write, as editors read them; descriptions are those of the types.

use sinter_data::DataConfig;
use sinter_estimate::Target;

use crate::config::PipelineConfig;

/// Whose schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// A pipeline file.
    Pipeline,
    /// A data file.
    Data,
    /// A target file.
    Target,
}

impl Schema {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pipeline, Self::Data, Self::Target];

    /// The name, on the command line and of the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Data => "data",
            Self::Target => "target",
        }
    }
}

/// The JSON Schema (draft 2020-12) of a kind of file.
pub fn schema(of: Schema) -> serde_json::Value {
    let schema = match of {
        Schema::Pipeline => schemars::schema_for!(PipelineConfig),
        Schema::Data => schemars::schema_for!(DataConfig),
        Schema::Target => schemars::schema_for!(Target),
    };
    let mut schema = schema.to_value();
    if of == Schema::Pipeline
        && let Some(required) = schema.as_object_mut().and_then(|s| s.remove("required"))
    {
        // What a file that extends another leaves out stands in the other.
        schema["if"] = serde_json::json!({ "required": ["extends"] });
        schema["else"] = serde_json::json!({ "required": required });
    }
    schema
}
