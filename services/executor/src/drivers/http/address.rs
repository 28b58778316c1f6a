//! The address of a request: its placeholders, filled. An argument must never move the request to another host or
//! up the path.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use url::Url;

use super::{faulty, parameters::Parameters, plain, styles::Parameter, wrong};
use crate::outcome::ToolError;

/// Longest address, in bytes: what the HTTP client takes at most, less room for what is added.
const LONGEST: usize = 60_000;

/// The address with its placeholders filled and percent-encoded, and the arguments that it used.
pub(super) fn fill<'a>(
    template: &'a str,
    parameters: &Parameters<'a>,
    arguments: &Map<String, Value>,
) -> Result<(Url, BTreeSet<&'a str>), ToolError> {
    let (mut address, mut plain_address) = (String::new(), String::new());
    let (mut used, mut filled) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| faulty("url"))?;
        let styled = parameters.in_path(name);
        if styled.is_none() && parameters.stands_elsewhere(name) {
            return Err(faulty(&format!("argument {name} stands in two places")));
        }
        let parameter = styled.unwrap_or_else(|| Parameter::placeholder(name));
        let text = match arguments.get(parameter.argument).unwrap_or(&Value::Null) {
            // Nobody said a style: what is no text is JSON there.
            value if styled.is_none() && !value.is_null() => parameter.in_path(&plain(value).into())?,
            value => parameter.in_path(value)?,
        };
        for (address, text) in [(&mut address, text.as_str()), (&mut plain_address, "x")] {
            address.push_str(before);
            address.push_str(text);
        }
        used.insert(parameter.argument);
        filled.insert(name);
        rest = after;
    }
    address.push_str(rest);
    plain_address.push_str(rest);
    if let Some(name) = parameters.names_in_path().find(|name| !filled.contains(name)) {
        return Err(faulty(&format!("parameter {name}: the url has no {{{name}}}")));
    }
    Ok((checked(&address, &plain_address, &used)?, used))
}

/// The address, if it leads where it would lead with any other argument.
fn checked(address: &str, plain_address: &str, used: &BTreeSet<&str>) -> Result<Url, ToolError> {
    let parse = |text: &str| Url::parse(text).map_err(|_| faulty("url"));
    let (url, expected) = (parse(address)?, parse(plain_address)?);
    if url.origin() != expected.origin() {
        return Err(faulty("url: a placeholder stands in its host"));
    }
    let segments = |url: &Url| url.path_segments().map_or(0, Iterator::count);
    let path = |text: &'_ str| text.split(['?', '#']).next().unwrap_or_default().to_owned();
    // No value holds a slash: the segments of both stand side by side.
    let (given, plain) = (path(address), path(plain_address));
    let leads_up = given.split('/').zip(plain.split('/')).any(|(given, plain)| {
        let decoded = given.to_ascii_lowercase().replace("%2e", ".");
        given != plain && matches!(decoded.as_str(), "" | "." | "..")
    });
    if leads_up || segments(&url) != segments(&expected) {
        let names: Vec<&str> = used.iter().copied().collect();
        return Err(wrong(&names.join(", "), "may not lead up the path"));
    }
    Ok(url)
}

/// Fails where an address is longer than it can be sent.
pub(super) fn fits(url: &Url) -> Result<(), ToolError> {
    if url.as_str().len() <= LONGEST {
        return Ok(());
    }
    Err(super::unfit(format!("the arguments make an address of more than {LONGEST} bytes; give less")))
}

#[cfg(test)]
mod tests {
    use proto::registry::v1::{HttpBinding, HttpLocation, HttpParameter, HttpStyle};
    use serde_json::json;

    use super::*;

    fn filled(template: &str, arguments: &Value) -> Result<String, ToolError> {
        styled(template, &[], arguments)
    }

    fn styled(template: &str, styles: &[(&str, HttpStyle)], arguments: &Value) -> Result<String, ToolError> {
        let parameter = |(name, style): &(&str, HttpStyle)| HttpParameter {
            argument: format!("the_{name}"),
            name: (*name).into(),
            location: HttpLocation::Path.into(),
            style: (*style).into(),
            ..HttpParameter::default()
        };
        let parameters = styles.iter().map(parameter).collect();
        let binding = HttpBinding { parameters, ..HttpBinding::default() };
        let parameters = Parameters::of(&binding)?;
        fill(template, &parameters, arguments.as_object().unwrap()).map(|(url, _)| url.to_string())
    }

    #[test]
    fn arguments_fill_the_address_and_cannot_leave_it() {
        let template = "https://api.example.com/users/{id}/x?q={q}";
        let url = filled(template, &json!({"id": "a/b ?#", "q": "1&admin=1"})).unwrap();
        assert_eq!(url, "https://api.example.com/users/a%2Fb%20%3F%23/x?q=1%26admin%3D1");
        assert_eq!(
            filled(template, &json!({"id": 7, "q": true})).unwrap(),
            "https://api.example.com/users/7/x?q=true"
        );
        for id in ["..", ".", ""] {
            assert!(filled(template, &json!({"id": id, "q": "x"})).is_err(), "{id}");
        }
        assert!(filled(template, &json!({"q": "x"})).is_err());
        assert!(filled("https://e.com/a/{x}{y}/b", &json!({"x": ".", "y": "."})).is_err());
        assert!(filled("https://e.com/a/{x}{y}/b", &json!({"x": "1.", "y": ".x"})).is_ok());
        assert!(filled("https://{host}.example.com/", &json!({"host": "evil.org/"})).is_err());
        assert!(filled("https://e.com/{x}{y}", &json!({"x": ".", "y": "."})).is_err());
        assert_eq!(filled("https://e.com/{x}", &json!({"x": [1, 2]})).unwrap(), "https://e.com/%5B1%2C2%5D");
        assert_eq!(filled("https://e.com/a/../{x}", &json!({"x": "b"})).unwrap(), "https://e.com/b");
    }

    #[test]
    fn a_parameter_says_how_its_placeholder_is_filled() {
        let styles = [("p", HttpStyle::Matrix), ("q", HttpStyle::Label)];
        let url = |p: Value, q: Value| {
            styled("https://e.com/a{p}/b{q}/{r}", &styles, &json!({"the_p": p, "the_q": q, "r": "z"}))
        };
        assert_eq!(url(json!([1, 2]), json!("x")).unwrap(), "https://e.com/a;p=1,2/b.x/z");
        assert_eq!(url(json!("../c"), json!("..")).unwrap(), "https://e.com/a;p=..%2Fc/b.../z");
        let alone = |value: Value| {
            styled("https://e.com/{q}", &[("q", HttpStyle::Label)], &json!({ "the_q": value }))
        };
        assert_eq!(alone(json!("x")).unwrap(), "https://e.com/.x");
        for up in [json!("."), json!(""), json!(null), json!([])] {
            assert!(alone(up.clone()).is_err(), "{up}");
        }
        let error = styled("https://e.com/{x}", &styles, &json!({"x": 1})).unwrap_err();
        assert!(error.message.contains("{p}"), "{error:?}");
    }

    #[test]
    fn an_address_has_an_end() {
        let url = |length: usize| Url::parse(&format!("https://e.com/?{}", "x".repeat(length))).unwrap();
        assert!(fits(&url(LONGEST - 100)).is_ok());
        assert!(fits(&url(LONGEST)).is_err());
    }
}
