//! The texts that a tool's vectors are made of. A tool's vectors are known by the digests of these texts, so that what
//! changes nothing in them costs no embedding. Pure.

use proto::registry::v1::ToolDefinition;
use serde_json::Value;
use types::Category;

use crate::words::split;

/// Longest text, in bytes: the model reads 256 tokens, and a token rarely has more than ten bytes.
const LONGEST: usize = 4_096;

/// SHA-256 of a text.
pub(crate) type Digest = [u8; 32];

/// What is said of a tool, in two lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    /// Name, description, parameters, capabilities and category.
    pub full: String,
    /// The description alone, or the name where there is none.
    pub short: String,
}

/// The digests of a tool's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Key {
    pub full: Digest,
    pub short: Digest,
}

impl Texts {
    pub(crate) fn of(definition: &ToolDefinition) -> Self {
        let name = spaced(&definition.name);
        let title =
            if definition.title.is_empty() { String::new() } else { format!(" ({})", definition.title) };
        let description = definition.description.trim();
        let short = cut(if description.is_empty() { name.clone() } else { description.to_owned() });
        let category: Option<Category> = definition.category().into();
        let mut full = format!("{name}{title}: {description}");
        let mut add = |label: &str, text: &str| {
            if !text.is_empty() {
                full.push(' ');
                full.push_str(label);
                full.push_str(text);
            }
        };
        add("", &parameters(&definition.input_schema_json));
        add("", &definition.capabilities.join(", "));
        add(
            "",
            &category
                .filter(|kind| *kind != Category::Custom)
                .map_or(String::new(), |kind| spaced(kind.as_str())),
        );
        Self { full: cut(full), short }
    }

    pub(crate) fn key(&self) -> Key {
        Key { full: digest(&self.full), short: digest(&self.short) }
    }
}

/// SHA-256 of a text.
pub(crate) fn digest(text: &str) -> Digest {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).into()
}

/// A name as words: what joins them says nothing to the model.
fn spaced(name: &str) -> String {
    split(name).join(" ")
}

/// The parameters of the first level, each with what is said of it.
fn parameters(schema: &str) -> String {
    let Ok(Value::Object(schema)) = serde_json::from_str(schema) else { return String::new() };
    let Some(Value::Object(properties)) = schema.get("properties") else { return String::new() };
    let told = properties.iter().map(|(name, schema)| {
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        if description.is_empty() {
            format!("{}.", spaced(name))
        } else {
            format!("{}: {description}", spaced(name))
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_texts_do_not_say_does_not_change_the_key() {
        let schema = r#"{"properties": {"cityName": {"description": "Where to look"}}}"#;
        let definition = ToolDefinition {
            name: "weather.get_forecast".into(),
            description: "Tells tomorrow's weather.".into(),
            input_schema_json: schema.into(),
            ..ToolDefinition::default()
        };
        let texts = Texts::of(&definition);
        assert_eq!(texts.short, "Tells tomorrow's weather.");
        assert_eq!(texts.full, "weather get forecast: Tells tomorrow's weather. city Name: Where to look");
        let dearer = ToolDefinition { cost_micro_usd: 5, ..definition.clone() };
        assert_eq!(Texts::of(&dearer).key(), texts.key());
        let other = ToolDefinition { input_schema_json: "{".into(), ..definition };
        assert_eq!(Texts::of(&other).key().short, texts.key().short);
        assert_ne!(Texts::of(&other).key().full, texts.key().full);
    }

    #[test]
    fn a_text_is_bounded() {
        let definition = ToolDefinition { description: "ü".repeat(100_000), ..ToolDefinition::default() };
        assert!(Texts::of(&definition).full.len() <= LONGEST);
    }
}
