//! Checks the calls that show how a tool is used: they must be calls that would be taken. No I/O.

use serde_json::Value;

use crate::{check::Violations, check_letters, definition::Example};

/// Most examples of one tool.
pub(crate) const MAX_EXAMPLES: usize = 10;
const MAX_DESCRIPTION: usize = 1_000;
/// Longest arguments and longest result, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// The examples, written anew from what was read; notes what is wrong with them. `input` is the schema of the
/// arguments, where there is a right one.
pub(crate) fn check(examples: Vec<Example>, input: Option<&Value>, found: &mut Violations) -> Vec<Example> {
    if examples.is_empty() {
        return examples;
    }
    if examples.len() > MAX_EXAMPLES {
        found.add("examples", format!("has {}; at most {MAX_EXAMPLES} are taken", examples.len()));
    }
    let validator = input.and_then(|schema| schema::compile(schema).ok());
    let mut checked = Vec::new();
    for (index, Example { description, arguments, result }) in
        examples.into_iter().take(MAX_EXAMPLES).enumerate()
    {
        found.text(&format!("examples[{index}].description"), &description, MAX_DESCRIPTION);
        let field = format!("examples[{index}].arguments_json");
        let arguments = match read(&arguments) {
            Ok(mut arguments) => {
                if let Some(at) = check_letters::found(&mut arguments) {
                    found.add(&field, format!("holds characters that are not seen, at {at:?}"));
                } else if !arguments.is_object() {
                    found.add(&field, "is not a JSON object");
                } else if let Some(wrong) =
                    validator.as_ref().and_then(|by| by.iter_errors(&arguments).next())
                {
                    let at = wrong.instance_path().to_string();
                    found.add(&field, format!("is not valid by the input schema, at {at:?}"));
                }
                arguments.to_string()
            }
            Err(wrong) => {
                found.add(&field, wrong);
                continue;
            }
        };
        let result = match read(&result) {
            _ if result.is_empty() => result,
            Ok(mut result) => {
                if let Some(at) = check_letters::found(&mut result) {
                    let field = format!("examples[{index}].result_json");
                    found.add(&field, format!("holds characters that are not seen, at {at:?}"));
                }
                result.to_string()
            }
            Err(wrong) => {
                found.add(&format!("examples[{index}].result_json"), wrong);
                continue;
            }
        };
        checked.push(Example { description, arguments, result });
    }
    checked
}

fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are taken", text.len()));
    }
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

/// The examples that a schema itself gives of its arguments, as far as they are right: what others write there is
/// no reason to refuse their tool.
pub(crate) fn of_schema(input: &Value) -> Vec<Example> {
    let Some(given) = input.get("examples").and_then(Value::as_array).filter(|given| !given.is_empty())
    else {
        return vec![];
    };
    let Ok(validator) = schema::compile(input) else { return vec![] };
    given
        .iter()
        .filter(|arguments| arguments.is_object() && validator.is_valid(arguments))
        .map(|arguments| Example {
            description: String::new(),
            arguments: arguments.to_string(),
            result: String::new(),
        })
        .filter(|example| example.arguments.len() <= MAX_BYTES)
        .take(MAX_EXAMPLES)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example(arguments: &str, result: &str) -> Example {
        Example { description: "Asks.".into(), arguments: arguments.into(), result: result.into() }
    }

    #[test]
    fn an_example_is_a_call_that_would_be_taken() {
        let input =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        let wrong = |examples: Vec<Example>| {
            let mut found = Violations::default();
            let kept = check(examples, Some(&input), &mut found);
            (kept, found.0.into_iter().map(|v| (v.field, v.description)).collect::<Vec<_>>())
        };
        let (kept, found) =
            wrong(vec![example(r#"{ "city": "Bonn" }"#, ""), example(r#"{"city":"Bonn"}"#, " 12 ")]);
        assert_eq!(found, []);
        assert_eq!((kept[0].arguments.as_str(), kept[1].result.as_str()), (r#"{"city":"Bonn"}"#, "12"));
        for (bad, field, says) in [
            (example("{}", ""), "arguments_json", "input schema"),
            (example(r#"{"city":1}"#, ""), "arguments_json", "/city"),
            (example("[]", ""), "arguments_json", "not a JSON object"),
            (example("{", ""), "arguments_json", "not JSON"),
            (example(r#"{"city":"x"}"#, "{"), "result_json", "not JSON"),
            (example(&format!(r#"{{"city":"{}"}}"#, "x".repeat(MAX_BYTES)), ""), "arguments_json", "16384"),
        ] {
            let (_, found) = wrong(vec![bad]);
            assert_eq!(found[0].0, format!("definition.examples[0].{field}"));
            assert!(found[0].1.contains(says), "{found:?}");
        }
        assert!(wrong(vec![example(r#"{"city":"x"}"#, ""); 11]).1[0].1.contains("at most 10"));
    }

    #[test]
    fn a_schemas_own_examples_are_taken_as_far_as_they_are_right() {
        let schema = json!({"type": "object", "required": ["a"], "examples": [{"a": 1}, {}, 5, {"a": 2}]});
        let taken: Vec<_> = of_schema(&schema).into_iter().map(|example| example.arguments).collect();
        assert_eq!(taken, [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert!(of_schema(&json!({"type": "object", "examples": "none"})).is_empty());
    }
}
