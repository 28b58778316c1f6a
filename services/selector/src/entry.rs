//! One tool as the selector sees it: the facts that filters ask for and the words it is found by.

use std::{collections::HashMap, sync::Arc};

use proto::registry::v1::{ServerState, Tool, ToolDefinition, ToolStatus};
use serde_json::Value;
use types::{Category, Sensitivity};

use crate::{
    texts::{Key, Texts},
    words::words,
};

/// Most words of one field that are looked at.
const MAX_WORDS: usize = 2_000;

/// A part of a definition that is searched, and how much a word in it says.
struct Field {
    /// Against a word of the description.
    weight: f32,
    /// How much a long text lowers the weight of each of its words: 0 not at all, 1 in proportion.
    length_effect: f32,
    /// The length, in words, at which a word has its plain weight. A constant and not the catalog's
    /// average: so a new tool changes no other tool's weights, and the index stays incremental.
    usual_length: f32,
}

const NAME: Field = Field { weight: 2.0, length_effect: 0.3, usual_length: 3.0 };
const TITLE: Field = Field { weight: 0.5, length_effect: 0.3, usual_length: 3.0 };
const DESCRIPTION: Field = Field { weight: 1.0, length_effect: 0.5, usual_length: 15.0 };
const CAPABILITIES: Field = Field { weight: 0.5, length_effect: 0.3, usual_length: 2.0 };
const CATEGORY: Field = Field { weight: 0.5, length_effect: 0.0, usual_length: 2.0 };
const PARAMETER_NAMES: Field = Field { weight: 0.5, length_effect: 0.5, usual_length: 5.0 };
const PARAMETER_TEXTS: Field = Field { weight: 0.3, length_effect: 0.7, usual_length: 25.0 };

/// The facts of one tool.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub tool: Arc<Tool>,
    pub name: String,
    pub status: ToolStatus,
    pub server: ServerState,
    pub category: Option<Category>,
    pub sensitivity: Sensitivity,
    /// In lower case.
    pub capabilities: Vec<String>,
    pub cost_micro_usd: i64,
    /// Ids of its terms in the index, in order.
    pub terms: Vec<u32>,
    /// Ids of the terms in its name, in order.
    pub name_terms: Vec<u32>,
    /// ln(1 + words said of its parameters): how much there is for a task's words to meet by chance.
    pub breadth: f32,
    /// What its vectors are known by.
    pub key: Key,
}

impl Entry {
    /// The facts of a tool; its terms are the index's matter.
    pub(crate) fn new(
        tool: Arc<Tool>,
        definition: &ToolDefinition,
        terms: Vec<u32>,
        name_terms: Vec<u32>,
    ) -> Self {
        Self {
            name: definition.name.clone(),
            status: tool.status(),
            server: tool.server_state(),
            category: definition.category().into(),
            sensitivity: Option::from(definition.sensitivity()).unwrap_or(Sensitivity::Internal),
            capabilities: definition.capabilities.iter().map(|word| word.trim().to_lowercase()).collect(),
            cost_micro_usd: definition.cost_micro_usd,
            terms,
            name_terms,
            breadth: Parameters::of(definition).breadth(),
            key: Texts::of(definition).key(),
            tool,
        }
    }

    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|own| own == capability)
    }

    pub(crate) fn description(&self) -> &str {
        self.tool.definition.as_ref().map_or("", |definition| definition.description.as_str())
    }

    pub(crate) fn is_deprecated(&self) -> bool {
        self.status == ToolStatus::Deprecated
    }
}

/// Each stem of a definition and its weight: how often it occurs, summed over the fields by BM25F
/// (Robertson, Zaragoza, Taylor: "Simple BM25 extension to multiple weighted fields", CIKM 2004).
pub(crate) fn weigh(definition: &ToolDefinition) -> HashMap<String, f32> {
    let mut weights = HashMap::new();
    let category: Option<Category> = definition.category().into();
    let parameters = Parameters::of(definition);
    add(&mut weights, &NAME, &definition.name);
    add(&mut weights, &TITLE, &definition.title);
    add(&mut weights, &DESCRIPTION, &definition.description);
    add(&mut weights, &CAPABILITIES, &definition.capabilities.join(" "));
    add(&mut weights, &CATEGORY, category.map_or("", Category::as_str));
    add(&mut weights, &PARAMETER_NAMES, &parameters.names);
    add(&mut weights, &PARAMETER_TEXTS, &parameters.texts);
    weights
}

fn add(weights: &mut HashMap<String, f32>, field: &Field, text: &str) {
    let found: Vec<_> = words(text).take(MAX_WORDS).collect();
    #[allow(clippy::cast_precision_loss, reason = "at most 2,000 words")]
    let length = found.len() as f32;
    let norm = 1.0 - field.length_effect + field.length_effect * length / field.usual_length;
    for word in found {
        *weights.entry(word.stem).or_default() += field.weight / norm;
    }
}

/// The words of a schema: names of properties, and what is said of them.
#[derive(Default)]
struct Parameters {
    names: String,
    texts: String,
}

impl Parameters {
    /// Those of a definition; none where its schema is no JSON.
    fn of(definition: &ToolDefinition) -> Self {
        let mut parameters = Self::default();
        if let Ok(schema) = serde_json::from_str(&definition.input_schema_json) {
            parameters.read(&schema);
        }
        parameters
    }

    fn breadth(&self) -> f32 {
        let words = self.names.split_whitespace().chain(self.texts.split_whitespace()).count();
        #[allow(clippy::cast_precision_loss, reason = "a definition has far fewer than 2^23 words")]
        let words = words as f32;
        words.ln_1p()
    }

    /// Reads a schema and those inside it. Its depth is bounded by the parser that made it.
    fn read(&mut self, schema: &Value) {
        match schema {
            Value::Object(keywords) => {
                keywords.iter().for_each(|(keyword, value)| self.keyword(keyword, value));
            }
            Value::Array(schemas) => schemas.iter().for_each(|schema| self.read(schema)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn keyword(&mut self, keyword: &str, value: &Value) {
        match (keyword, value) {
            ("properties", Value::Object(properties)) => {
                for (name, schema) in properties {
                    push(&mut self.names, name);
                    self.read(schema);
                }
            }
            ("description" | "title" | "const", Value::String(text)) => push(&mut self.texts, text),
            ("enum", Value::Array(values)) => {
                values.iter().filter_map(Value::as_str).for_each(|text| push(&mut self.texts, text));
            }
            ("$defs" | "definitions" | "patternProperties", Value::Object(schemas)) => {
                schemas.values().for_each(|schema| self.read(schema));
            }
            (
                "items"
                | "prefixItems"
                | "additionalProperties"
                | "anyOf"
                | "oneOf"
                | "allOf"
                | "if"
                | "then"
                | "else",
                schema,
            ) => self.read(schema),
            _ => {}
        }
    }
}

fn push(texts: &mut String, text: &str) {
    texts.push_str(text);
    texts.push(' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> ToolDefinition {
        let schema = r#"{"properties": {"cityName": {"description": "Where to look"},
            "days": {"items": {"properties": {"unit": {"enum": ["fortnight"]}}}}}}"#;
        ToolDefinition {
            name: "weather.forecast".into(),
            description: "Tells tomorrow's temperature.".into(),
            input_schema_json: schema.into(),
            ..ToolDefinition::default()
        }
    }

    #[test]
    fn names_descriptions_and_parameters_at_any_depth_are_found() {
        let weights = weigh(&definition());
        for stem in ["weather", "forecast", "temperatur", "citi", "dai", "unit", "fortnight", "look"] {
            assert!(weights.contains_key(stem), "{stem} is not in {weights:?}");
        }
        assert!(weights["weather"] > weights["temperatur"], "a name says more than a description");
        assert!(weights["temperatur"] > weights["unit"], "a description says more than a parameter");
    }

    #[test]
    fn a_word_of_a_long_text_says_less() {
        let long = ToolDefinition {
            description: format!("{} {}", definition().description, "padding ".repeat(100)),
            ..definition()
        };
        assert!(weigh(&long)["temperatur"] < weigh(&definition())["temperatur"]);
        assert!((weigh(&long)["weather"] - weigh(&definition())["weather"]).abs() < 1e-6);
    }

    #[test]
    fn a_schema_that_is_no_json_hides_nothing_else() {
        let broken = ToolDefinition { input_schema_json: "{".into(), ..definition() };
        assert!(weigh(&broken).contains_key("weather"));
    }
}
