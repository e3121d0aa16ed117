//! A stage as YAML has it: what kind it is, what it does, and a name of its own.

use std::borrow::Cow;
use std::fmt::{Formatter, Result as Written};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_cluster::ClusterConfig;
use sinter_distill::DistillConfig;
use sinter_prune::PruneConfig;
use sinter_quantize::QuantizeConfig;
use sinter_train::{Stage, TrainConfig};

macro_rules! stages {
    ($($(#[$doc:meta])* $kind:ident($config:ty) = $key:literal,)*) => {
        /// One stage. Beside its kind it may have a `name`, and in a file that extends another `after` or `before` a stage of that file.
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum StageConfig {
            $($(#[$doc])* $kind($config),)*
        }

        impl StageConfig {
            const KEYS: &'static [&'static str] = &[$($key),*];

            /// The stage itself.
            pub fn stage(&self) -> &dyn Stage {
                match self { $(Self::$kind(stage) => stage,)* }
            }

            fn read<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> Result<Self, A::Error> {
                match key {
                    $($key => map.next_value().map(Self::$kind),)*
                    other => Err(Error::unknown_variant(other, StageEntry::KEYS)),
                }
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self { $(Self::$kind(stage) => map.serialize_entry($key, stage),)* }
            }
        }

        impl StageEntry {
            const KEYS: &'static [&'static str] = &[$($key,)* NAME];
        }
    };
}

// Adding a stage is one crate and one line here.
stages! {
    /// Trains the float model on the labels.
    Train(TrainConfig) = "train",
    /// Removes weights, channels or residual blocks.
    Prune(PruneConfig) = "prune",
    /// Gives weights shared values.
    Cluster(ClusterConfig) = "cluster",
    /// Trains the model to answer as another does.
    Distill(DistillConfig) = "distill",
    /// Puts weights, and values between layers, into few bits.
    Quantize(QuantizeConfig) = "quantize",
}

const NAME: &str = "name";
const WHAT: &str = "A name for `stage:NAME`, for `--set` and for files that extend this one. Default: what kind it is.";
const AFTER: &str = "With `extends`: the stage of that file behind which this new one stands.";
const BEFORE: &str = "With `extends`: the stage of that file before which this new one stands.";

/// One stage of a pipeline: `prune: { … }`, with a `name` beside it where it shall have one.
#[derive(Debug, Clone)]
pub struct StageEntry {
    /// Its own name, where it has one.
    pub name: Option<String>,
    /// What it does.
    pub config: StageConfig,
}

impl<'de> Deserialize<'de> for StageEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = StageEntry;

            fn expecting(&self, f: &mut Formatter) -> Written {
                f.write_str("a stage, as in `quantize: {}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StageEntry, A::Error> {
                let (mut name, mut config) = (None, None::<StageConfig>);
                while let Some(key) = map.next_key::<String>()? {
                    if key == NAME {
                        name = Some(map.next_value()?);
                    } else if key == "after" || key == "before" {
                        map.next_value::<IgnoredAny>()?;
                        let what = "places a new stage in a file that `extends` one with stages";
                        return Err(A::Error::custom(format!("`{key}` {what}, and nowhere else")));
                    } else if let Some(other) = &config {
                        map.next_value::<IgnoredAny>()?;
                        let kind = other.stage().name();
                        return Err(A::Error::custom(format!("a stage is of one kind, and this is `{kind}` and `{key}`")));
                    } else {
                        config = Some(StageConfig::read(&key, &mut map)?);
                    }
                }
                let missing = || A::Error::custom(format!("a stage says what it does: one of {}", StageConfig::KEYS.join(", ")));
                Ok(StageEntry { name, config: config.ok_or_else(missing)? })
            }
        }
        deserializer.deserialize_map(Entry)
    }
}

impl Serialize for StageEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(name) = &self.name {
            map.serialize_entry(NAME, name)?;
        }
        self.config.write(&mut map)?;
        map.end()
    }
}

impl JsonSchema for StageEntry {
    fn schema_name() -> Cow<'static, str> {
        "StageConfig".into()
    }

    /// That of the kinds, each with what may stand beside it.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = StageConfig::json_schema(generator);
        let beside = [(NAME, WHAT), ("after", AFTER), ("before", BEFORE)];
        let kinds = schema.get_mut("oneOf").and_then(|kinds| kinds.as_array_mut());
        for kind in kinds.into_iter().flatten() {
            if let Some(properties) = kind.get_mut("properties").and_then(|p| p.as_object_mut()) {
                // `~` takes a stage of the other file away.
                for kind in properties.values_mut() {
                    *kind = serde_json::json!({ "anyOf": [kind.take(), { "type": "null" }] });
                }
                properties.extend(beside.map(|(key, _)| (key.to_string(), true.into())));
            }
        }
        let texts = beside.map(|(key, what)| (key.to_string(), serde_json::json!({ "type": "string", "description": what })));
        schema.insert("properties".into(), serde_json::Map::from_iter(texts).into());
        schema
    }
}
