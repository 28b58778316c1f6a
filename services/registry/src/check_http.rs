//! Checks where the arguments and credentials of an HTTP tool go: an argument stands in one place only, and nothing
//! sets what is another's. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    check::{self, Violations},
    check_binding::{MAX_VALUES, RESERVED_HEADERS, is_property, is_required},
    check_settings::is_token,
    definition::{
        CredentialPlace, CredentialUse, Http, HttpBody, HttpLocation, HttpParameter, HttpStyle, NextPage,
        Pagination,
    },
};

/// Longest name of a parameter, in characters.
const MAX_NAME: usize = 256;
/// Longest media type, pointer or prefix, in characters.
const MAX_TEXT: usize = 256;
/// Most credentials.
const MAX_CREDENTIALS: usize = 8;

/// Notes what is wrong with parameters, body, credentials and pagination. `placeholders` are those of the address.
pub(crate) fn check(
    http: &Http,
    placeholders: &BTreeSet<String>,
    input: Option<&Value>,
    found: &mut Violations,
) {
    let mut places = Places { http, placeholders, input, arguments: BTreeSet::new(), found };
    places.bare_arguments();
    places.parameters();
    if let Some(body) = &http.body {
        places.body(body);
    }
    if let Some(pagination) = &http.pagination {
        places.pagination(pagination);
    }
    credentials(http, found);
}

struct Places<'a> {
    http: &'a Http,
    placeholders: &'a BTreeSet<String>,
    input: Option<&'a Value>,
    /// Arguments that have their place.
    arguments: BTreeSet<&'a str>,
    found: &'a mut Violations,
}

impl<'a> Places<'a> {
    /// Those that the address and `query_arguments` name.
    fn bare_arguments(&mut self) {
        let described: BTreeSet<&str> = self
            .http
            .parameters
            .iter()
            .filter(|parameter| parameter.location == HttpLocation::Path)
            .map(own_name)
            .collect();
        let bare = self.placeholders.iter().map(String::as_str).filter(|name| !described.contains(name));
        self.arguments.extend(bare);
        self.arguments.extend(self.http.query_arguments.iter().map(String::as_str));
    }

    fn parameters(&mut self) {
        let all: &'a [HttpParameter] = &self.http.parameters;
        if all.len() > MAX_VALUES {
            self.found.add("binding.http.parameters", format!("has more than {MAX_VALUES}"));
        }
        let mut names = BTreeSet::new();
        for (index, parameter) in all.iter().enumerate().take(MAX_VALUES) {
            let field = format!("binding.http.parameters[{index}]");
            self.argument(&field, &parameter.argument);
            self.name(&field, parameter);
            if !fits(parameter.style, parameter.location) {
                let (style, location) = (word(parameter.style), word(parameter.location));
                self.found
                    .add(&format!("{field}.style"), format!("{style} is not for a parameter in {location}"));
            }
            let name = own_name(parameter).to_owned();
            let name = if parameter.location == HttpLocation::Header { name.to_lowercase() } else { name };
            if !names.insert((parameter.location, name)) {
                let told = "is the name of another parameter in the same place";
                self.found.add(&format!("{field}.name"), told);
            }
        }
    }

    /// Takes an argument for one place, or notes why it cannot stand there.
    fn argument(&mut self, field: &str, argument: &'a str) {
        let field = format!("{field}.argument");
        if self.input.is_some_and(|input| !is_property(input, argument)) {
            self.found.add(&field, format!("{argument:?} is not a property of the input schema"));
        }
        if !self.arguments.insert(argument) {
            self.found.add(&field, format!("{argument:?} stands in another place already"));
        }
    }

    fn name(&mut self, field: &str, parameter: &HttpParameter) {
        let (field, name) = (format!("{field}.name"), own_name(parameter));
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            let told = format!("must be 1 to {MAX_NAME} characters without control characters");
            return self.found.add(&field, told);
        }
        match parameter.location {
            HttpLocation::Path if !self.placeholders.contains(name) => {
                self.found.add(&field, format!("{name:?} is not a {{placeholder}} of the address"));
            }
            HttpLocation::Path
                if self.input.is_some_and(|input| !is_required(input, &parameter.argument)) =>
            {
                let told = format!(
                    "{:?} stands in the address: the input schema must require it",
                    parameter.argument
                );
                self.found.add(&field, told);
            }
            HttpLocation::Header if !is_header(name) => {
                self.found.add(&field, format!("{name:?} is not a header name, or set by the connection"));
            }
            HttpLocation::Header if is_fixed(&self.http.headers, name) => {
                self.found.add(&field, format!("{name:?} is one of the fixed headers already"));
            }
            HttpLocation::Cookie if !is_token(name) => {
                self.found.add(&field, format!("{name:?} is not the name of a cookie"));
            }
            HttpLocation::Path | HttpLocation::Query | HttpLocation::Header | HttpLocation::Cookie => {}
        }
    }

    fn body(&mut self, body: &'a HttpBody) {
        if self.http.body_json {
            self.found.add("binding.http.body", "cannot be given together with body_json");
        }
        if self.http.method == "GET" {
            self.found.add("binding.http.body", "cannot be: a GET request has no body");
        }
        if !body.argument.is_empty() {
            self.argument("binding.http.body", &body.argument);
        }
        let is_media_type = body.content_type.contains('/')
            && body.content_type.chars().count() <= MAX_TEXT
            && is_printable(&body.content_type);
        if !body.content_type.is_empty() && !is_media_type {
            let told = "must be a media type such as \"application/merge-patch+json\", or empty";
            self.found.add("binding.http.body.content_type", told);
        }
    }

    fn pagination(&mut self, pagination: &Pagination) {
        let field = "binding.http.pagination";
        let is_rest =
            self.http.body_json || self.http.body.as_ref().is_some_and(|body| body.argument.is_empty());
        let is_property = self.input.is_none_or(|input| is_property(input, &pagination.argument));
        if !is_property || !(is_rest || self.arguments.contains(pagination.argument.as_str())) {
            let told = format!("{:?} is not an argument that the request carries", pagination.argument);
            self.found.add(&format!("{field}.argument"), told);
        }
        match &pagination.next {
            NextPage::CursorPointer(pointer)
                if !pointer.starts_with('/') || pointer.chars().count() > MAX_TEXT =>
            {
                let told = "must be a JSON pointer such as \"/meta/next_cursor\"";
                self.found.add(&format!("{field}.cursor_pointer"), told);
            }
            NextPage::LinkParameter(name) if name.is_empty() || name.chars().count() > MAX_NAME => {
                self.found.add(&format!("{field}.link_parameter"), "must be the name of a query parameter");
            }
            NextPage::CursorPointer(_) | NextPage::LinkParameter(_) => {}
        }
    }
}

/// A credential is named, never held, and nothing else stands where it goes.
fn credentials(http: &Http, found: &mut Violations) {
    if http.credentials.len() > MAX_CREDENTIALS {
        found.add("binding.http.credentials", format!("has more than {MAX_CREDENTIALS}"));
    }
    let mut places = BTreeSet::new();
    for (index, used) in http.credentials.iter().enumerate().take(MAX_CREDENTIALS) {
        let field = format!("binding.http.credentials[{index}]");
        if !check::is_word(&used.credential) {
            found.add(&format!("{field}.credential"), "must be 1 to 64 characters of a-z, 0-9, _ and -");
        }
        if let Some(wrong) = wrong_place(http, used) {
            found.add(&field, wrong);
        }
        if used.place.is_none() && !used.prefix.is_empty() {
            found.add(&format!("{field}.prefix"), "goes with header, query or cookie only");
        }
        if used.prefix.chars().count() > MAX_TEXT || !is_printable(&used.prefix) {
            found.add(
                &format!("{field}.prefix"),
                format!("must be printable ASCII of at most {MAX_TEXT} characters"),
            );
        }
        if used.place.is_some() && !places.insert(format!("{:?}", used.place).to_lowercase()) {
            found.add(&field, "goes where another credential goes");
        }
    }
}

fn wrong_place(http: &Http, used: &CredentialUse) -> Option<String> {
    let is_taken = |location, name: &str| {
        http.parameters.iter().any(|parameter| {
            parameter.location == location
                && if location == HttpLocation::Header {
                    own_name(parameter).eq_ignore_ascii_case(name)
                } else {
                    own_name(parameter) == name
                }
        })
    };
    let parameter = |name: &str| format!("goes to {name:?}, which is a parameter: leave the parameter out");
    match used.place.as_ref()? {
        CredentialPlace::Header(name) if !is_header(name) => {
            Some(format!("{name:?} is not a header name, or set by the connection"))
        }
        CredentialPlace::Header(name) if is_fixed(&http.headers, name) => {
            Some(format!("goes to {name:?}, which is one of the fixed headers already"))
        }
        CredentialPlace::Header(name) if is_taken(HttpLocation::Header, name) => Some(parameter(name)),
        CredentialPlace::Query(name) | CredentialPlace::Cookie(name) if name.is_empty() => {
            Some("has no name for its place".to_owned())
        }
        CredentialPlace::Query(name)
            if is_taken(HttpLocation::Query, name) || http.query_arguments.contains(name) =>
        {
            Some(parameter(name))
        }
        CredentialPlace::Cookie(name) if !is_token(name) => {
            Some(format!("{name:?} is not the name of a cookie"))
        }
        CredentialPlace::Cookie(name) if is_taken(HttpLocation::Cookie, name) => Some(parameter(name)),
        CredentialPlace::Env(_) => {
            Some("has no such place in a request: set header, query, cookie, or none".into())
        }
        CredentialPlace::Header(_) | CredentialPlace::Query(_) | CredentialPlace::Cookie(_) => None,
    }
}

fn own_name(parameter: &HttpParameter) -> &str {
    if parameter.name.is_empty() { &parameter.argument } else { &parameter.name }
}

fn is_header(name: &str) -> bool {
    is_token(name) && !RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str())
}

fn is_fixed(headers: &BTreeMap<String, String>, name: &str) -> bool {
    headers.keys().any(|fixed| fixed.eq_ignore_ascii_case(name))
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Which styles a location has: `OpenAPI` 3.1, section 4.8.12.3 (Style Values).
fn fits(style: HttpStyle, location: HttpLocation) -> bool {
    match location {
        HttpLocation::Query => matches!(
            style,
            HttpStyle::Form | HttpStyle::SpaceDelimited | HttpStyle::PipeDelimited | HttpStyle::DeepObject
        ),
        HttpLocation::Cookie => style == HttpStyle::Form,
        HttpLocation::Header => style == HttpStyle::Simple,
        HttpLocation::Path => matches!(style, HttpStyle::Simple | HttpStyle::Label | HttpStyle::Matrix),
    }
}

/// A word as it is stored.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::definition::HttpBodyFormat;

    fn parameter(argument: &str, name: &str, location: HttpLocation, style: HttpStyle) -> HttpParameter {
        let (argument, name) = (argument.to_owned(), name.to_owned());
        HttpParameter { argument, name, location, style, explode: false, json: false }
    }

    fn query(argument: &str) -> HttpParameter {
        parameter(argument, "", HttpLocation::Query, HttpStyle::Form)
    }

    fn header(name: &str) -> HttpParameter {
        parameter("q", name, HttpLocation::Header, HttpStyle::Simple)
    }

    fn used(place: Option<CredentialPlace>, prefix: &str) -> CredentialUse {
        CredentialUse { credential: "key".into(), place, prefix: prefix.into() }
    }

    fn body(argument: &str, content_type: &str) -> HttpBody {
        let (argument, content_type) = (argument.to_owned(), content_type.to_owned());
        HttpBody { format: HttpBodyFormat::Json, argument, content_type }
    }

    fn wrong(edit: impl FnOnce(&mut Http)) -> String {
        let input = json!({"type": "object", "required": ["id"],
            "properties": {"id": {}, "q": {}, "r": {}, "body": {}}});
        let mut http = Http::new("POST", "https://example.com/{key}");
        http.parameters = vec![parameter("id", "key", HttpLocation::Path, HttpStyle::Label)];
        edit(&mut http);
        let mut found = Violations::default();
        check(&http, &["key".to_owned()].into(), Some(&input), &mut found);
        let lines: Vec<String> =
            found.0.into_iter().map(|v| format!("{} {}\n", v.field, v.description)).collect();
        lines.concat()
    }

    #[test]
    fn what_is_right_is_taken() {
        assert_eq!(wrong(|_| {}), "");
        assert_eq!(
            wrong(|http| {
                http.headers.insert("accept".into(), "application/json".into());
                http.parameters
                    .extend([query("q"), parameter("r", "x-r", HttpLocation::Header, HttpStyle::Simple)]);
                http.body = Some(body("body", "application/merge-patch+json"));
                http.credentials =
                    vec![used(None, ""), used(Some(CredentialPlace::Header("x-key".into())), "token ")];
                http.pagination =
                    Some(Pagination { next: NextPage::CursorPointer("/next".into()), argument: "q".into() });
            }),
            ""
        );
    }

    #[test]
    fn an_argument_stands_in_one_place_only() {
        for (edit, says) in [
            (
                (|h| h.parameters.push(query("none"))) as fn(&mut Http),
                "parameters[1].argument \"none\" is not a property",
            ),
            (|h| h.parameters.extend([query("q"), header("x-q")]), "parameters[2].argument \"q\" stands"),
            (
                |h| {
                    h.query_arguments.push("q".into());
                    h.parameters.push(query("q"));
                },
                "stands",
            ),
            (|h| h.body = Some(body("id", "")), "body.argument \"id\" stands"),
            (|h| h.body = Some(body("none", "")), "body.argument \"none\" is not"),
            (
                |h| {
                    h.parameters
                        .extend([query("q"), parameter("r", "q", HttpLocation::Query, HttpStyle::Form)]);
                },
                "parameters[2].name",
            ),
        ] {
            let found = wrong(edit);
            assert!(found.contains(says), "{says}: {found}");
        }
    }

    #[test]
    fn names_and_styles_are_those_of_the_place() {
        for (edit, says) in [
            ((|h| h.parameters[0].name = "other".into()) as fn(&mut Http), "placeholder"),
            (|h| h.parameters[0].argument = "q".into(), "must require"),
            (|h| h.parameters[0].style = HttpStyle::Form, "\"form\" is not for a parameter in \"path\""),
            (|h| h.parameters.push(header("Host")), "set by the connection"),
            (|h| h.parameters.push(header("a b")), "not a header name"),
            (|h| h.parameters.push(header("x\u{7}")), "control"),
            (
                |h| {
                    h.headers.insert("X-A".into(), String::new());
                    h.parameters.push(header("x-a"));
                },
                "fixed headers",
            ),
            (|h| h.parameters.push(parameter("q", "a=b", HttpLocation::Cookie, HttpStyle::Form)), "cookie"),
            (|h| h.body = Some(body("body", "nonsense")), "media type"),
            (|h| h.body = Some(body("body", "text/x\r\nx: y")), "media type"),
            (
                |h| {
                    h.body = Some(body("body", ""));
                    h.body_json = true;
                },
                "body_json",
            ),
            (
                |h| {
                    h.body = Some(body("body", ""));
                    h.method = "GET".into();
                },
                "GET",
            ),
        ] {
            let found = wrong(edit);
            assert!(found.contains(says), "{says}: {found}");
        }
    }

    #[test]
    fn credentials_and_pages_have_their_place() {
        for (edit, says) in [
            ((|h| h.credentials = vec![used(None, "token ")]) as fn(&mut Http), "prefix goes with"),
            (|h| h.credentials = vec![used(Some(CredentialPlace::Env("X".into())), "")], "no such place"),
            (|h| h.credentials = vec![used(Some(CredentialPlace::Header("host".into())), "")], "set by"),
            (|h| h.credentials = vec![used(Some(CredentialPlace::Query(String::new())), "")], "no name"),
            (|h| h.credentials = vec![used(Some(CredentialPlace::Header("a".into())), "é")], "printable"),
            (
                |h| {
                    h.parameters.push(query("q"));
                    h.credentials = vec![used(Some(CredentialPlace::Query("q".into())), "")];
                },
                "which is a parameter",
            ),
            (
                |h| {
                    let place = || Some(CredentialPlace::Query("k".into()));
                    h.credentials = vec![used(place(), ""), used(place(), "")];
                },
                "another credential",
            ),
            (
                |h| h.credentials = vec![CredentialUse { credential: "A b".into(), ..used(None, "") }],
                "credential must",
            ),
            (
                |h| {
                    let next = NextPage::CursorPointer("next".into());
                    h.pagination = Some(Pagination { next, argument: "q".into() });
                },
                "JSON pointer",
            ),
            (
                |h| {
                    let next = NextPage::LinkParameter("page".into());
                    h.pagination = Some(Pagination { next, argument: "r".into() });
                },
                "not an argument that the request carries",
            ),
        ] {
            let found = wrong(edit);
            assert!(found.contains(says), "{says}: {found}");
        }
    }
}
