//! The next page of a long answer: what to add to the same arguments to get it. Pure. Of a link only the one value
//! is taken: no request goes where a server points.

use proto::registry::v1::{HttpBinding, Pagination, pagination::Next};
use reqwest::header::{HeaderMap, LINK};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use url::Url;

use super::{faulty, link, schema};
use crate::outcome::ToolError;

/// Where an answer came from, and what was said beside it.
pub(super) struct Beside<'a> {
    pub headers: &'a HeaderMap,
    pub url: &'a Url,
    /// The tool's input schema, as JSON text.
    pub input_schema: &'a str,
}

/// How a binding is paged, if it is.
pub(super) fn of(binding: &HttpBinding) -> Result<Option<&Pagination>, ToolError> {
    let Some(pagination) = &binding.pagination else { return Ok(None) };
    if pagination.next.is_none() || pagination.argument.is_empty() {
        return Err(faulty("pagination: it does not say where the next page stands, or in which argument"));
    }
    Ok(Some(pagination))
}

/// The result with what gets the next page. `answer` is JSON text; `None` where it is not.
pub(super) fn wrapped(pagination: &Pagination, answer: &str, beside: &Beside<'_>) -> Option<String> {
    // The answer itself goes on untouched, but must be one value.
    serde_json::from_str::<IgnoredAny>(answer).ok()?;
    let next = match pagination.next.as_ref()? {
        Next::CursorPointer(pointer) => {
            let answer: Value = serde_json::from_str(answer).ok()?;
            answer.pointer(pointer).cloned()
        }
        Next::LinkParameter(name) => by_link(name, beside).map(Value::from),
    };
    let next = next.filter(|value| value.is_number() || value.as_str().is_some_and(|text| !text.is_empty()));
    let next = next.map(|value| {
        let value = typed(value, &pagination.argument, beside.input_schema);
        Value::Object(Map::from_iter([(pagination.argument.clone(), value)]))
    });
    Some(format!(r#"{{"result":{},"next_arguments":{}}}"#, answer.trim(), json!(next)))
}

fn by_link(name: &str, beside: &Beside<'_>) -> Option<String> {
    let fields = beside.headers.get_all(LINK).iter().filter_map(|field| field.to_str().ok());
    let target = beside.url.join(link::next(fields)?).ok()?;
    target.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The value in the type that its argument has.
fn typed(value: Value, argument: &str, input_schema: &str) -> Value {
    let root: Value = serde_json::from_str(input_schema).unwrap_or_default();
    let Some(schema) = schema::member(&root, &root, argument) else { return value };
    match &value {
        Value::String(text) if !schema::allows(&root, schema, "string") => {
            let number: Option<Value> = serde_json::from_str(text).ok();
            number.filter(Value::is_number).unwrap_or(value)
        }
        Value::Number(number)
            if !schema::allows(&root, schema, "integer") && !schema::allows(&root, schema, "number") =>
        {
            Value::from(number.to_string())
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const INPUT: &str = r##"{"$defs": {"P": {"type": "integer"}}, "properties":
        {"page": {"$ref": "#/$defs/P"}, "cursor": {"type": ["string", "null"]}, "any": {}}}"##;

    fn page(next: Next, argument: &str, answer: &str, links: &[&'static str]) -> Option<String> {
        let pagination = Pagination { next: Some(next), argument: argument.into() };
        let headers: HeaderMap = links.iter().map(|link| (LINK, HeaderValue::from_static(link))).collect();
        let url = Url::parse("https://e.com/items?page=1").unwrap();
        wrapped(&pagination, answer, &Beside { headers: &headers, url: &url, input_schema: INPUT })
    }

    #[test]
    fn a_cursor_becomes_the_argument_in_its_type() {
        let cursor = |argument: &str, answer: &str| {
            page(Next::CursorPointer("/meta/next".into()), argument, answer, &[]).unwrap()
        };
        for (argument, next, expected) in [
            ("cursor", r#""abc""#, r#"{"cursor":"abc"}"#),
            ("cursor", "7", r#"{"cursor":"7"}"#),
            ("page", r#""7""#, r#"{"page":7}"#),
            ("page", "18446744073709551615", r#"{"page":18446744073709551615}"#),
            ("page", r#""x""#, r#"{"page":"x"}"#),
            ("any", "7", r#"{"any":7}"#),
            ("other", r#""7""#, r#"{"other":"7"}"#),
            ("cursor", r#""""#, "null"),
            ("cursor", "null", "null"),
            ("cursor", "false", "null"),
            ("cursor", "{}", "null"),
        ] {
            let answer = format!(r#"{{"meta": {{"next": {next}}}, "n": 1.00}}"#);
            let expected = format!(r#"{{"result":{answer},"next_arguments":{expected}}}"#);
            assert_eq!(cursor(argument, &answer), expected);
        }
        assert_eq!(cursor("cursor", "[1]"), r#"{"result":[1],"next_arguments":null}"#);
    }

    #[test]
    fn of_a_link_one_value_is_taken() {
        let link = |argument: &str, links: &[&'static str]| {
            page(Next::LinkParameter("page".into()), argument, " [] ", links).unwrap()
        };
        for (links, expected) in [
            (&["<https://evil.example/x?page=2&per_page=9>; rel=\"next\""][..], r#"{"page":2}"#),
            (&["<?page=3>; rel=next"], r#"{"page":3}"#),
            (&["<?page=1>; rel=prev", "<?page=a%26b>; rel=\"last next\""], r#"{"page":"a&b"}"#),
            (&["<?after=3>; rel=next"], "null"),
            (&["<?page=>; rel=next"], "null"),
            (&["<https://[>; rel=next"], "null"),
            (&[], "null"),
        ] {
            let expected = format!(r#"{{"result":[],"next_arguments":{expected}}}"#);
            assert_eq!(link("page", links), expected, "{links:?}");
        }
        assert!(link("cursor", &["<?page=2>; rel=next"]).contains(r#"{"cursor":"2"}"#));
    }

    #[test]
    fn what_is_no_json_cannot_pass_for_more_than_the_answer() {
        for answer in [r#"1,"next_arguments":{"x":1}"#, "", "{", "1}"] {
            assert_eq!(page(Next::CursorPointer("/a".into()), "x", answer, &[]), None, "{answer}");
            assert_eq!(page(Next::LinkParameter("a".into()), "x", answer, &[]), None, "{answer}");
        }
    }
}
