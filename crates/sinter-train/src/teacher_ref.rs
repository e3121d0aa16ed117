//! Names of teachers.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which model teaches: the float model before compression, what a named stage left, or an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TeacherRef {
    /// The float model before compression.
    #[default]
    Float,
    /// What the stage of this name left.
    Stage(String),
    /// An ONNX file.
    Onnx(PathBuf),
}

impl FromStr for TeacherRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "float" => Ok(Self::Float),
            Some(("stage", name)) if !name.is_empty() => Ok(Self::Stage(name.to_string())),
            Some(("onnx", path)) if !path.is_empty() => Ok(Self::Onnx(PathBuf::from(path))),
            _ => Err(format!("`{text}` is not a teacher: write `float`, `stage:NAME` or `onnx:PATH`")),
        }
    }
}

impl std::fmt::Display for TeacherRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float => write!(f, "float"),
            Self::Stage(name) => write!(f, "stage:{name}"),
            Self::Onnx(path) => write!(f, "onnx:{}", path.display()),
        }
    }
}

impl Serialize for TeacherRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TeacherRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        sinter_model::from_text(deserializer, "a teacher such as stage:train")
    }
}

impl schemars::JsonSchema for TeacherRef {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TeacherRef".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        sinter_model::choices::text_schema("`float`, `stage:NAME` or `onnx:PATH`", &["float", "stage:train"])
    }
}
