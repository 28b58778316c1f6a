//! What a model's words come to. They are a stranger's: only the fields that were asked for are read, names are
//! checked against those that were offered, numbers are clamped, and one entry that does not fit spoils the answer.
//! Pure.

use serde::{Deserialize, de::DeserializeOwned};
use types::Category;

use super::{MAX_REASON, Requirements, prompt};

/// The words are no answer to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// What a task asks for: known capabilities only, each once.
pub(super) fn requirements(words: &str, known: &[&str]) -> Result<Requirements, Invalid> {
    #[derive(Deserialize)]
    struct Answer {
        capabilities: Vec<String>,
        category: Option<String>,
    }
    let answer: Answer = read(words)?;
    let mut capabilities: Vec<String> = Vec::new();
    for capability in answer.capabilities {
        let capability = capability.trim().to_lowercase();
        if !known.contains(&capability.as_str()) {
            return Err(Invalid);
        }
        if !capabilities.contains(&capability) {
            capabilities.push(capability);
        }
    }
    let category = answer.category.as_deref().map(str::trim).filter(|word| !word.is_empty());
    let category = category.map(str::parse::<Category>).transpose().map_err(|_| Invalid)?;
    Ok(Requirements { capabilities, category })
}

/// How well each tool fits, 0 to 1, in the order in which they were offered; `None` of one that was left out. At least
/// one is there.
pub(super) fn fits(words: &str, tools: usize) -> Result<Vec<Option<f64>>, Invalid> {
    #[derive(Deserialize)]
    struct Answer {
        fits: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        fit: f64,
    }
    let answer: Answer = read(words)?;
    let mut fits = vec![None; tools];
    for entry in &answer.fits {
        let place = (0..tools).find(|place| prompt::id(*place) == entry.id).ok_or(Invalid)?;
        if !entry.fit.is_finite() || fits[place].replace(entry.fit.clamp(0.0, 1.0)).is_some() {
            return Err(Invalid);
        }
    }
    if fits.iter().all(Option::is_none) { Err(Invalid) } else { Ok(fits) }
}

/// A sentence on one line, without what could steer a terminal or hide in a text, and without secrets.
pub(super) fn reason(words: &str) -> Result<String, Invalid> {
    #[derive(Deserialize)]
    struct Answer {
        reason: String,
    }
    let answer: Answer = read(words)?;
    let seen: String = answer
        .reason
        .chars()
        .filter(|letter| !types::is_hidden(*letter))
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let line = seen.split_whitespace().collect::<Vec<_>>().join(" ");
    let sentence = redact::excerpt(&line, MAX_REASON);
    if sentence.is_empty() { Err(Invalid) } else { Ok(sentence) }
}

/// The JSON of an answer. Models that take no schema wrap it in words, fences or thoughts.
fn read<T: DeserializeOwned>(words: &str) -> Result<T, Invalid> {
    let words = words.rsplit("</think>").next().unwrap_or_default().trim();
    if let Ok(answer) = serde_json::from_str(words) {
        return Ok(answer);
    }
    let (start, end) = (words.find('{').ok_or(Invalid)?, words.rfind('}').ok_or(Invalid)?);
    words.get(start..=end).and_then(|part| serde_json::from_str(part).ok()).ok_or(Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_name_only_what_was_offered_and_are_clamped() {
        let told = r#"{"fits":[{"id":"t2","fit":7},{"id":"t1","fit":-0.5,"why":"x"}],"more":1}"#;
        assert_eq!(fits(told, 3).unwrap(), [Some(0.0), Some(1.0), None]);
        for bad in [
            r#"{"fits":[]}"#,
            r#"{"fits":[{"id":"t4","fit":1}]}"#,
            r#"{"fits":[{"id":"mail.send","fit":1}]}"#,
            r#"{"fits":[{"id":"t1","fit":1},{"id":"t1","fit":0}]}"#,
            r#"{"fits":[{"id":"t1","fit":NaN}]}"#,
            r#"{"fits":[{"id":"t1","fit":1e999}]}"#,
            r#"{"fits":[{"id":"t1","fit":"1"}]}"#,
            r#"{"fits":[{"id":"t1"}]}"#,
            r#"{"fits":[{"id":"t1","fit":1}],"fits":[]}"#,
            r#"{"fits":{"t1":1}}"#,
            r#"{"fits":[{"id":"t1","fit":1"#,
            "I cannot help with that.",
            "} {",
            "",
        ] {
            assert_eq!(fits(bad, 3), Err(Invalid), "{bad}");
        }
        let nested = format!(r#"{{"fits":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(fits(&nested, 3), Err(Invalid));
    }

    #[test]
    fn an_answer_may_stand_in_fences_and_after_thoughts() {
        let told =
            "<think>maybe {t2}?</think>Sure!\n```json\n{\"fits\": [{\"id\": \"t1\", \"fit\": 0.5}]}\n```";
        assert_eq!(fits(told, 1).unwrap(), [Some(0.5)]);
    }

    #[test]
    fn requirements_are_known_words() {
        let known = ["search", "analyze"];
        let told = r#"{"capabilities":["Search","search"],"category":"web_search"}"#;
        let found = requirements(told, &known).unwrap();
        assert_eq!(
            found,
            Requirements { capabilities: vec!["search".into()], category: Some(Category::WebSearch) }
        );
        let none = requirements(r#"{"capabilities":[],"category":null}"#, &known).unwrap();
        assert_eq!(none, Requirements::default());
        for bad in [
            r#"{"capabilities":["root"],"category":"custom"}"#,
            r#"{"capabilities":[],"category":"everything"}"#,
            r#"{"category":"custom"}"#,
        ] {
            assert_eq!(requirements(bad, &known), Err(Invalid), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_seen_line_without_secrets() {
        let told = r#"{"reason":" fits\u001b[2J\n well\u202e\u200b, key ghp_16C7e42F292c6912E7710c838347Ae178B4a "}"#;
        let line = reason(told).unwrap();
        assert!(line.starts_with("fits [2J well, key "), "{line}");
        assert!(!line.contains("ghp_16C7"), "{line}");
        let long = format!(r#"{{"reason":"{}"}}"#, "word ".repeat(2_000));
        assert!(reason(&long).unwrap().chars().count() <= MAX_REASON);
        assert_eq!(reason(r#"{"reason":"\u0000\u200b "}"#), Err(Invalid));
    }
}
