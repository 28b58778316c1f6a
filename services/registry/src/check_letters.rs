//! Keeps letters that nobody sees out of definitions: what models read there, the people who approve it must see.
//! Takes them out of words, and never out of what has a meaning to the tool, such as the values that it takes. No I/O.

use serde_json::Value;
use types::is_hidden;

use crate::{change::words, check::Violations, definition::Proposal};

/// What a part of a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Schema,
    /// Schemas by names that the tool's provider chose.
    Named,
    Words,
    /// Values that the tool takes.
    Values,
}

impl Part {
    fn of(self, keyword: &str) -> Self {
        match (self, keyword) {
            (Self::Words | Self::Values, _) => self,
            (Self::Schema, "enum" | "const" | "default") => Self::Values,
            (
                Self::Schema,
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
            ) => Self::Named,
            (Self::Schema, keyword) if words::are(keyword) => Self::Words,
            (Self::Named | Self::Schema, _) => Self::Schema,
        }
    }
}

/// Takes them out of the texts of what a stranger proposes; examples that hold any go. Schemas are for `in_schema`.
pub(crate) fn strip(proposal: &mut Proposal) {
    proposal.title.retain(|letter| !is_hidden(letter));
    proposal.description.retain(|letter| !is_hidden(letter));
    let stripped = |text: &str| text.replace(is_hidden, "");
    let labels = std::mem::take(&mut proposal.labels);
    proposal.labels = labels.iter().map(|(key, value)| (stripped(key), stripped(value))).collect();
    proposal.examples.retain(|example| is_clear(&example.arguments) && is_clear(&example.result));
    for example in &mut proposal.examples {
        example.description.retain(|letter| !is_hidden(letter));
    }
}

/// Whether a text of JSON holds none, written out or escaped.
fn is_clear(json: &str) -> bool {
    serde_json::from_str(json).map_or(!json.contains(is_hidden), |mut value| found(&mut value).is_none())
}

/// Where a value holds one, as a JSON pointer.
pub(crate) fn found(value: &mut Value) -> Option<String> {
    walk(value, Part::Values, false)
}

/// Notes where a schema holds one; with `strips`, words lose theirs instead.
pub(crate) fn in_schema(field: &str, schema: Option<&mut Value>, strips: bool, violations: &mut Violations) {
    if let Some(place) = schema.and_then(|schema| walk(schema, Part::Schema, strips)) {
        violations.add(field, format!("holds characters that are not seen, at {place:?}"));
    }
}

/// The first place of one that is not taken out. Schemas nest no deeper than they may.
fn walk(value: &mut Value, part: Part, strips: bool) -> Option<String> {
    let below = |name: &str, place: String| format!("/{name}{place}");
    match value {
        Value::String(text) if text.contains(is_hidden) => {
            if !(strips && part == Part::Words) {
                return Some(String::new());
            }
            text.retain(|letter| !is_hidden(letter));
            None
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .find_map(|(index, item)| Some(below(&index.to_string(), walk(item, part, strips)?))),
        Value::Object(members) => members.iter_mut().find_map(|(name, member)| {
            if name.contains(is_hidden) {
                return Some(below(name, String::new()));
            }
            Some(below(name, walk(member, part.of(name), strips)?))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        check::{Origin, check, tests::proposal},
        definition::{Example, Proposal},
    };

    /// "ignore" in tags.
    const TAGS: &str = "\u{e0069}\u{e0067}\u{e006e}";

    fn hiding(schema: &serde_json::Value) -> Proposal {
        Proposal { input_schema: schema.to_string(), ..proposal() }
    }

    #[test]
    fn strangers_words_lose_what_is_not_seen() {
        let property = json!({"type": "string", "description": format!("A c\u{202e}ity.{TAGS}")});
        let hidden = Proposal {
            title: format!("Weather{TAGS}"),
            description: format!("Tells{TAGS} the wea\u{200b}ther ⚠\u{fe0f}."),
            labels: [("a".to_owned(), format!("b{TAGS}"))].into(),
            examples: vec![
                Example { description: TAGS.into(), arguments: "{}".into(), result: String::new() },
                Example {
                    description: String::new(),
                    arguments: r#"{"title":"\u200b"}"#.into(),
                    result: String::new(),
                },
            ],
            ..hiding(&json!({"type": "object", "properties": {"title": property}}))
        };
        for origin in [Origin::Discovery, Origin::Import] {
            let taken = check(hidden.clone(), origin).unwrap();
            assert_eq!((taken.title.as_str(), taken.labels["a"].as_str()), ("Weather", "b"));
            assert_eq!(taken.description, "Tells the weather ⚠\u{fe0f}.");
            assert_eq!(taken.examples.len(), 1);
            assert!(!format!("{taken:?}").contains(types::is_hidden), "{taken:?}");
            assert!(taken.input_schema.contains("A city."), "{}", taken.input_schema);
        }
        let found = check(hidden, Origin::Person).unwrap_err();
        let fields: Vec<_> = found.0.iter().map(|violation| violation.field.as_str()).collect();
        for field in
            ["title", "description", "labels", "examples[0].description", "examples[1].arguments_json"]
        {
            assert!(fields.contains(&format!("definition.{field}").as_str()), "{field} in {fields:?}");
        }
        let schema = found.0.iter().find(|violation| violation.field.ends_with("input_schema_json")).unwrap();
        assert!(schema.description.contains("/properties/title/description"), "{}", schema.description);
    }

    #[test]
    fn what_the_tool_takes_is_never_changed() {
        let name = format!("city{TAGS}");
        for schema in [
            json!({"type": "object", "properties": {"a": {"enum": [TAGS]}}}),
            json!({"type": "object", "properties": {"a": {"const": {"title": TAGS}}}}),
            json!({"type": "object", "properties": {"a": {"pattern": "[\u{200b}]"}}}),
            json!({"type": "object", "properties": {name: {"type": "string"}}}),
        ] {
            let found = check(hiding(&schema), Origin::Discovery).unwrap_err();
            assert!(found.0[0].description.contains("not seen"), "{:?}", found.0);
            assert!(!found.0[0].description.contains(types::is_hidden));
        }
    }
}
