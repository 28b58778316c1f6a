//! The settings of a tool by name: dotted paths of the contract's fields, read from `KEY=VALUE` and told as text.
//! No I/O, and no rule about a value but its type.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use proto::registry::v1::ToolSettings;
use serde_json::{Map, Value};

use super::json;

/// Word that brings a default back.
const DEFAULT: &str = "default";
/// How alike two keys must be for one to be told, from 0 to 1 (Jaro-Winkler).
const LIKENESS: f64 = 0.75;
/// What is not set with `set`.
const FALLBACKS: &str = "fallbacks";

/// Reads what is to be set: the settings, and the paths that are meant.
pub fn read(words: &[String]) -> Result<(ToolSettings, Vec<String>), String> {
    let settings = settings_descriptor().map_err(|error| format!("{error:#}"))?;
    let (mut message, mut paths) = (Map::new(), Vec::new());
    for text in words {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        let field = find(&settings, key)?;
        if paths.iter().any(|known| known == key) {
            return Err(format!("{key} is given twice"));
        }
        if value != DEFAULT {
            insert(&mut message, key, typed(&field, key, value)?);
        }
        paths.push(key.to_owned());
    }
    let settings = json::read(Value::Object(message)).map_err(|error| format!("{error:#}"))?;
    Ok((settings, paths))
}

/// Every setting with its value as text, in the contract's order.
pub fn values(settings: &ToolSettings) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    collect(&settings_descriptor()?, "", &json::of(settings)?, &mut found);
    Ok(found)
}

fn settings_descriptor() -> anyhow::Result<MessageDescriptor> {
    json::descriptor::<ToolSettings>()
}

/// Each field below a message, with its path; groups before what is in them.
fn fields(message: &MessageDescriptor, prefix: &str) -> Vec<(String, FieldDescriptor)> {
    let mut found = Vec::new();
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        found.push((path.clone(), field.clone()));
        if let Kind::Message(inner) = field.kind()
            && !field.is_list()
        {
            found.extend(fields(&inner, &format!("{path}.")));
        }
    }
    found
}

fn find(settings: &MessageDescriptor, key: &str) -> Result<FieldDescriptor, String> {
    if key == FALLBACKS {
        return Err("fallbacks are set with: toolcrib tools fallbacks NAME --add TOOL".into());
    }
    let known = fields(settings, "");
    if let Some((_, field)) = known.iter().find(|(path, _)| path == key) {
        return Ok(field.clone());
    }
    let likeness = |path: &str| {
        let own = path.rsplit_once('.').map_or(path, |(_, own)| own);
        strsim::jaro_winkler(key, path).max(strsim::jaro_winkler(key, own))
    };
    let scored = known.iter().map(|(path, _)| (likeness(path), path)).filter(|(_, path)| *path != FALLBACKS);
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= LIKENESS);
    let hint = best.map_or_else(
        || "see them all with: toolcrib tools settings NAME".to_owned(),
        |(_, path)| format!("did you mean {path}?"),
    );
    Err(format!("there is no setting {key:?}; {hint}"))
}

fn insert(message: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            message.insert(key.to_owned(), value);
        }
        Some((group, rest)) => {
            let inner = message.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// A value as JSON by the type of its field.
fn typed(field: &FieldDescriptor, key: &str, value: &str) -> Result<Value, String> {
    let wrong = |wanted: &str| format!("{key}: {wanted} wanted, {value:?} given");
    if field.is_list() {
        return list(field, value).ok_or_else(|| wrong("a list, as JSON or joined by commas,"));
    }
    match field.kind() {
        Kind::Bool => match value {
            "true" | "on" | "yes" => Ok(Value::Bool(true)),
            "false" | "off" | "no" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false")),
        },
        Kind::Int32 => value.parse::<i32>().map(Value::from).map_err(|_| wrong("a whole number")),
        Kind::Int64 => value.parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number")),
        Kind::Double => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::from(number)),
            _ => Err(wrong("a number")),
        },
        Kind::String => Ok(Value::from(value)),
        Kind::Enum(words) => {
            let known: Vec<_> = words.values().filter(|word| word.number() != 0).collect();
            let found = known.iter().find(|word| short(&words, word.name()) == value || word.name() == value);
            let all: Vec<_> = known.iter().map(|word| short(&words, word.name())).collect();
            found.map(|word| Value::from(word.name())).ok_or_else(|| wrong(&all.join(", ")))
        }
        Kind::Message(inner) => {
            let below: Vec<_> = inner.fields().map(|field| format!("{key}.{}", field.name())).collect();
            Err(format!("{key} is a group; set one of {}, or {key}={DEFAULT}", below.join(", ")))
        }
        other => Err(format!("{key}: {other:?} cannot be set here")),
    }
}

/// Texts joined by commas, or anything as a list of JSON.
fn list(field: &FieldDescriptor, value: &str) -> Option<Value> {
    if value.starts_with('[') {
        return serde_json::from_str(value).ok().filter(Value::is_array);
    }
    let texts = || value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Value::from).collect();
    (field.kind() == Kind::String).then(texts)
}

/// `OUTPUT_MODE_WARN` of `OutputMode` is `warn` to people.
fn short(words: &EnumDescriptor, name: &str) -> String {
    let zero = words.default_value();
    let prefix = zero.name().trim_end_matches("UNSPECIFIED");
    name.trim_start_matches(prefix).to_ascii_lowercase()
}

fn collect(message: &MessageDescriptor, prefix: &str, value: &Value, found: &mut Vec<(String, String)>) {
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        let value = &value[field.name()];
        match field.kind() {
            _ if field.is_list() => found.push((path, listed(value))),
            Kind::Message(_) if !value.is_object() => found.push((path, "off".into())),
            Kind::Message(inner) => collect(&inner, &format!("{path}."), value, found),
            // Of several places, the one that is set.
            _ if field.containing_oneof().is_some() && value.is_null() => {}
            Kind::Enum(words) => found.push((path, short(&words, value.as_str().unwrap_or_default()))),
            _ => found.push((path, value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
        }
    }
}

/// What is in a list: its texts, tools or names.
fn listed(list: &Value) -> String {
    let name =
        |item: &Value| item.as_str().or(item["tool"].as_str()).or(item["name"].as_str()).map(str::to_owned);
    let names = list.as_array().into_iter().flatten().filter_map(name);
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::{
        CacheSettings, IdempotencyKey, OutputMode, SemanticMatch, idempotency_key::Place,
    };

    use super::*;

    fn set(words: &[&str]) -> Result<(ToolSettings, Vec<String>), String> {
        read(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn keys_take_the_type_of_the_contract() {
        let words = [
            "retry.max_retries=0",
            "retry.multiplier=1.5",
            "cache.enabled=on",
            "cache.ttl_s=600",
            "cache.semantic.field=q",
            "output_mode=warn",
            "idempotency_key.header=X-Key=1",
            "timeout_ms=default",
        ];
        let (settings, paths) = set(&words).unwrap();
        let retry = settings.retry.unwrap();
        assert_eq!((retry.max_retries, retry.jitter), (Some(0), None));
        assert!((retry.multiplier - 1.5).abs() < f64::EPSILON);
        let semantic = SemanticMatch { field: "q".into(), ..SemanticMatch::default() };
        let cache =
            CacheSettings { enabled: true, ttl_s: 600, semantic: Some(semantic), ..CacheSettings::default() };
        assert_eq!((settings.cache, settings.timeout_ms), (Some(cache), 0));
        assert_eq!(settings.output_mode, OutputMode::Warn as i32);
        let key = IdempotencyKey { place: Some(Place::Header("X-Key=1".into())) };
        assert_eq!(settings.idempotency_key, Some(key));
        assert_eq!(paths.last().unwrap(), "timeout_ms");
        assert_eq!((paths.len(), paths[6].as_str()), (8, "idempotency_key.header"));
    }

    #[test]
    fn lists_are_joined_by_commas_or_json() {
        let patterns = r#"redaction.patterns=[{"name":"case","pattern":"CASE-\\d{6},?"}]"#;
        let redaction = set(&["redaction.keys=badge_no, *pin", patterns]).unwrap().0.redaction.unwrap();
        assert_eq!(redaction.keys, ["badge_no", "*pin"]);
        assert_eq!((redaction.patterns.len(), redaction.patterns[0].pattern.as_str()), (1, r"CASE-\d{6},?"));
        let settings = ToolSettings { redaction: Some(redaction), ..ToolSettings::default() };
        let values = values(&settings).unwrap();
        let value =
            |key: &str| values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        assert_eq!(value("redaction.keys"), Some("badge_no, *pin"));
        assert_eq!(value("redaction.patterns"), Some("case"));
        assert!(set(&["redaction.patterns=CASE"]).unwrap_err().contains("as JSON"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_does() {
        for (word, says) in [
            ("retry.max_retrys=1", "did you mean retry.max_retries?"),
            ("max_retries=1", "did you mean retry.max_retries?"),
            ("ttl_s=1", "did you mean cache.ttl_s?"),
            ("zzz=1", "toolcrib tools settings NAME"),
            ("retry", "is not KEY=VALUE"),
            ("retry=3", "set one of retry.max_retries, "),
            ("retry.max_retries=many", "a whole number wanted, \"many\" given"),
            ("retry.multiplier=NaN", "a number wanted"),
            ("cache.enabled=maybe", "true or false wanted"),
            ("output_mode=loud", "strict, warn, off wanted"),
            ("output_mode=unspecified", "strict, warn, off wanted"),
            ("fallbacks=a", "toolcrib tools fallbacks"),
        ] {
            let wrong = set(&[word]).unwrap_err();
            assert!(wrong.contains(says), "{word}: {wrong}");
        }
        assert!(set(&["timeout_ms=1", "timeout_ms=2"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn every_value_is_told_by_its_key() {
        let (settings, _) = set(&["idempotency_key.meta=k", "output_mode=off", "cache.ttl_s=9"]).unwrap();
        let values = values(&settings).unwrap();
        let value =
            |key: &str| values.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        assert_eq!(value("idempotency_key.meta"), Some("k"));
        assert_eq!(value("idempotency_key.header"), None);
        assert_eq!((value("output_mode"), value("cache.ttl_s")), (Some("off"), Some("9")));
        assert_eq!((value("cache.semantic"), value("fallbacks")), (Some("off"), Some("none")));
    }
}
