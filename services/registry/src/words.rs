//! The words of names and texts, told apart alike for what is searched and for what is sought. No I/O.

use serde_json::Value;

use crate::definition::Definition;

/// Longest word that is kept, in characters: what is longer is cut.
const MAX_WORD: usize = 64;
/// Most bytes of words of capabilities and parameters of one tool.
const MAX_REST: usize = 32 * 1024;

/// Letters and digits, lower case: a new word begins behind anything else, and where a capital follows a small letter
/// or begins the last word of several capitals (`getHTTPStatus`).
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = text.chars().collect();
    for (place, &letter) in letters.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| letters[place]);
        let next = letters.get(place + 1);
        let begins = letter.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || before.is_uppercase() && next.is_some_and(|next| next.is_lowercase())
            });
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase().filter(|letter| letter.is_alphanumeric()));
        }
    }
    words.retain(|word| !word.is_empty());
    for word in &mut words {
        if let Some((end, _)) = word.char_indices().nth(MAX_WORD) {
            word.truncate(end);
        }
    }
    words
}

/// What a tool is found by, words apart.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[allow(clippy::struct_field_names, reason = "names in a row of the database")]
pub(crate) struct Searched {
    name_words: String,
    title_words: String,
    description_words: String,
    /// Of capabilities, and of names and descriptions of parameters.
    other_words: String,
}

impl Searched {
    /// What a definition is found by.
    pub(crate) fn of(definition: &Definition) -> Self {
        let mut rest = definition.capabilities.join(" ");
        if let Ok(schema) = serde_json::from_str(&definition.input_schema) {
            collect(&schema, &mut rest);
        }
        let joined = |text: &str| words(text).join(" ");
        Self {
            name_words: joined(&definition.name),
            title_words: joined(&definition.title),
            description_words: joined(&definition.description),
            other_words: joined(&rest),
        }
    }
}

/// Names and descriptions of properties, wherever they stand.
fn collect(schema: &Value, into: &mut String) {
    match schema {
        Value::Object(members) => {
            for (keyword, member) in members {
                match member {
                    Value::Object(properties) if keyword == "properties" => named(properties, into),
                    member => collect(member, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        _ => {}
    }
}

/// A property may have any name, that of a keyword too.
fn named(properties: &serde_json::Map<String, Value>, into: &mut String) {
    for (name, property) in properties {
        let described = property.get("description").and_then(Value::as_str).unwrap_or_default();
        if into.len() + name.len() + described.len() + 2 <= MAX_REST {
            into.extend([" ", name, " ", described]);
        }
        collect(property, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{self, Origin},
        definition::Proposal,
    };

    #[test]
    fn words_are_told_apart_however_they_are_joined() {
        for (text, expected) in [
            ("github.list_pull-requests", "github list pull requests"),
            ("getUserById", "get user by id"),
            ("getHTTPStatus2XX", "get http status2 xx"),
            ("user2Team ÄpfelÖl", "user2 team äpfel öl"),
            ("it's | a & \"b\" :* !c <-> (d) \u{0}\\", "it s a b c d"),
            ("🦀 ₂ crab", "crab"),
            ("", ""),
        ] {
            let found = words(text).join(" ");
            assert_eq!(found.replace("₂ ", ""), expected, "{text}");
        }
        assert_eq!(words(&"x".repeat(10_000)), ["x".repeat(64)]);
    }

    #[test]
    fn parameters_are_found_wherever_they_stand() {
        let schema = r#"{"type":"object","properties":{"properties":{"type":"array","description":"Which ones.",
            "items":{"properties":{"odd":true,"zipCode":{"description":"Of the place."}}}}}}"#;
        let capabilities = vec!["retrieve".to_owned()];
        let proposal = Proposal {
            input_schema: schema.into(),
            capabilities,
            title: "The Weather".into(),
            ..check::tests::proposal()
        };
        let searched = Searched::of(&check::check(proposal, Origin::Person).unwrap());
        assert_eq!(searched.other_words, "retrieve properties which ones odd zip code of the place");
        assert_eq!((searched.name_words.as_str(), searched.title_words.as_str()), ("weather", "the weather"));
    }
}
