//! Lists of kinds of a thing, one file a kind: criteria, algorithms, calibrations, roundings, optimizers, schedules, metrics.
//!
//! A kind is a struct of typed options with defaults, documented where it stands, that implements the family's trait. The family's `mod.rs`
//! lists its kinds with [`choices!`](crate::choices), which makes them a type of the configuration: written by name (`criterion: taylor`), or
//! with options (`criterion: { taylor: { samples: 512 } }`), with a JSON Schema whose descriptions are the doc comments.

#[doc(hidden)]
pub use schemars;
#[doc(hidden)]
pub use serde;

/// Declares an enum of kinds; see [the module](crate::choices).
///
/// ```ignore
/// sinter_model::choices! {
///     /// What makes a weight dispensable.
///     pub enum WeightCriterion: dyn Criterion {
///         "magnitude" => Magnitude(magnitude::Magnitude),
///         "taylor" => Taylor(taylor::Taylor),
///     }
///     default Magnitude
/// }
/// ```
#[macro_export]
macro_rules! choices {
    (
        $(#[doc = $doc:literal])+
        pub enum $Family:ident: dyn $Trait:path { $($name:literal => $Kind:ident($Options:ty),)+ }
        default $Default:ident
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each kind is documented on its own type")]
        pub enum $Family { $($Kind($Options)),+ }

        impl $Family {
            /// The names of all kinds, as they are written.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Every kind with its default options.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Kind(<$Options>::default())),+]
            }

            /// The name, as it is written.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Kind(_) => $name),+ }
            }

            /// The kind itself.
            pub fn kind(&self) -> &(dyn $Trait + 'static) {
                match self { $(Self::$Kind(kind) => kind),+ }
            }
        }

        impl Default for $Family {
            fn default() -> Self {
                Self::$Default(Default::default())
            }
        }

        impl std::str::FromStr for $Family {
            type Err = String;
            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $($name => Ok(Self::$Kind(<$Options>::default())),)+
                    other => Err(format!("`{other}` is none of {}", Self::NAMES.join(", "))),
                }
            }
        }

        impl $crate::choices::serde::Serialize for $Family {
            fn serialize<S: $crate::choices::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use $crate::choices::serde::ser::SerializeMap as _;
                match self {
                    $(
                        Self::$Kind(options) if *options == <$Options>::default() => serializer.serialize_str($name),
                        Self::$Kind(options) => {
                            let mut map = serializer.serialize_map(Some(1))?;
                            map.serialize_entry($name, options)?;
                            map.end()
                        }
                    )+
                }
            }
        }

        impl<'de> $crate::choices::serde::Deserialize<'de> for $Family {
            fn deserialize<D: $crate::choices::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use $crate::choices::serde::de::{Error, MapAccess, Visitor};
                struct Kinds;
                impl<'de> Visitor<'de> for Kinds {
                    type Value = $Family;
                    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                        write!(f, "one of {}", $Family::NAMES.join(", "))
                    }
                    fn visit_str<E: Error>(self, name: &str) -> Result<$Family, E> {
                        name.parse().map_err(|_| E::unknown_variant(name, $Family::NAMES))
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$Family, A::Error> {
                        let Some(name) = map.next_key::<String>()? else {
                            return Err(A::Error::custom(format!("expected one of {}", $Family::NAMES.join(", "))));
                        };
                        let found = match name.as_str() {
                            $($name => $Family::$Kind(map.next_value::<$Options>()?),)+
                            _ => return Err(A::Error::unknown_variant(&name, $Family::NAMES)),
                        };
                        match map.next_key::<String>()? {
                            None => Ok(found),
                            Some(more) => Err(A::Error::custom(format!("`{name}` and `{more}`: write one of them"))),
                        }
                    }
                }
                deserializer.deserialize_any(Kinds)
            }
        }

        impl $crate::choices::schemars::JsonSchema for $Family {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($Family).into()
            }
            fn json_schema(generator: &mut $crate::choices::schemars::SchemaGenerator) -> $crate::choices::schemars::Schema {
                let kinds = vec![$(($name, <$Options as $crate::choices::schemars::JsonSchema>::json_schema(generator))),+];
                $crate::choices::schema(concat!($($doc, "\n"),+), Self::default().name(), kinds)
            }
        }
    };
}

/// The schema of a family: each kind by its name, or with its options where it has any.
#[doc(hidden)]
pub fn schema(doc: &str, default: &str, kinds: Vec<(&'static str, schemars::Schema)>) -> schemars::Schema {
    let doc: Vec<&str> = doc.lines().map(str::trim).collect();
    let each = kinds.into_iter().flat_map(|(name, options)| {
        let description = options.get("description").cloned().unwrap_or_default();
        let named = schemars::json_schema!({ "const": name, "description": description.clone() });
        let has_options = options.get("properties").and_then(|p| p.as_object()).is_some_and(|p| !p.is_empty());
        let with_options = has_options.then(|| {
            schemars::json_schema!({
                "type": "object", "description": description, "properties": { name: options },
                "required": [name], "additionalProperties": false
            })
        });
        [Some(named), with_options].into_iter().flatten()
    });
    let each: Vec<schemars::Schema> = each.collect();
    schemars::json_schema!({ "description": doc.join("\n").trim(), "oneOf": each, "default": default })
}

/// The schema of what is written as text of a form of its own.
pub fn text_schema(description: &str, examples: &[&str]) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "description": description, "examples": examples })
}

/// The schema of a quantity: a text with its unit, or a number without.
pub fn quantity_schema(description: &str, examples: &[&str]) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "number"], "description": description, "examples": examples })
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    pub trait Shape {
        fn sides(&self) -> usize;
    }

    /// Four of them.
    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Square {}

    /// As many as you like.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub struct Polygon {
        /// How many. Default: 5.
        pub sides: usize,
    }

    impl Default for Polygon {
        fn default() -> Self {
            Self { sides: 5 }
        }
    }

    impl Shape for Square {
        fn sides(&self) -> usize {
            4
        }
    }

    impl Shape for Polygon {
        fn sides(&self) -> usize {
            self.sides
        }
    }

    crate::choices! {
        /// A shape.
        pub enum AnyShape: dyn Shape {
            "square" => Square(Square),
            "polygon" => Polygon(Polygon),
        }
        default Square
    }

    #[test]
    fn kinds_are_written_by_name_or_with_options() {
        let read = |text: &str| serde_yaml::from_str::<AnyShape>(text);
        for (text, sides, back) in [
            ("square", 4, "square"),
            ("polygon", 5, "polygon"),
            ("{polygon: {sides: 7}}", 7, "polygon:\n  sides: 7"),
            ("square: {}", 4, "square"),
        ] {
            let shape = read(text).unwrap();
            assert_eq!(shape.kind().sides(), sides, "{text}");
            assert_eq!(serde_yaml::to_string(&shape).unwrap().trim(), back);
        }
        assert_eq!(AnyShape::all().iter().map(AnyShape::name).collect::<Vec<_>>(), AnyShape::NAMES);
        let wrong = read("circle").unwrap_err().to_string();
        assert!(wrong.contains("unknown variant `circle`, expected `square` or `polygon`"), "{wrong}");
        assert!(read("{polygon: {size: 7}}").unwrap_err().to_string().contains("unknown field `size`"));
        assert!(read("{polygon: {}, square: {}}").is_err() && read("{}").is_err() && read("7").is_err());
        let schema = serde_json::to_value(schemars::schema_for!(AnyShape)).unwrap();
        assert_eq!(schema["oneOf"][0]["const"], "square");
        assert_eq!(schema["oneOf"][2]["properties"]["polygon"]["properties"]["sides"]["description"], "How many. Default: 5.");
    }
}
