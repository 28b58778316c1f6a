//! Checks how a tool is to be run, as far as can be known before it runs. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use url::Url;

use crate::{
    check::{Origin, Violations},
    check_grpc, check_http,
    check_settings::is_token,
    definition::{BUILTINS, Binding, Http, HttpLocation},
};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// Longest address, in characters.
const MAX_URL: usize = 2_048;
/// Longest program, argument or value, in characters.
const MAX_VALUE: usize = 8_192;
/// Most headers, parameters, arguments or variables.
pub(crate) const MAX_VALUES: usize = 256;
/// Headers that the connection itself sets.
pub(crate) const RESERVED_HEADERS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];

/// Notes what is wrong with a binding; `input` is the tool's input schema where that is right.
pub(crate) fn check(binding: &Binding, origin: Origin, input: Option<&Value>, found: &mut Violations) {
    match binding {
        Binding::Builtin(builtin) if BUILTINS.contains(&builtin.name.as_str()) => {}
        Binding::Builtin(builtin) => {
            let known = BUILTINS.join(", ");
            found.add("binding.builtin.name", format!("{:?} is not one of {known}", builtin.name));
        }
        Binding::Http(http) => check_http(http, input, found),
        Binding::Grpc(grpc) if origin == Origin::Import => check_grpc::check(grpc, found),
        Binding::Grpc(_) => {
            found.add("binding.grpc", "is made by ImportGrpc, which asks the server itself");
        }
        Binding::Mcp(_) if origin == Origin::Discovery => {}
        Binding::Mcp(_) => {
            found.add("binding.mcp", "is made by RegisterServer, which lists the tools itself");
        }
    }
}

fn check_http(http: &Http, input: Option<&Value>, found: &mut Violations) {
    if !METHODS.contains(&http.method.as_str()) {
        found.add("binding.http.method", format!("{:?} is not one of {}", http.method, METHODS.join(", ")));
    }
    if http.body_json && http.method == "GET" {
        found.add("binding.http.body_json", "cannot be: a GET request has no body");
    }
    let arguments = match url_template(&http.url) {
        Ok(placeholders) => placeholders,
        Err(wrong) => {
            found.add("binding.http.url", wrong);
            BTreeSet::new()
        }
    };
    check_headers("binding.http.headers", &http.headers, found);
    if http.query_arguments.len() > MAX_VALUES {
        found.add("binding.http.query_arguments", format!("has more than {MAX_VALUES}"));
    }
    check_http::check(http, &arguments, input, found);
    let Some(input) = input else { return };
    let is_described = |name: &str| {
        let in_path = http.parameters.iter().filter(|each| each.location == HttpLocation::Path);
        in_path.clone().any(|each| name == if each.name.is_empty() { &each.argument } else { &each.name })
    };
    for name in arguments.iter().filter(|name| !is_described(name)) {
        if !is_property(input, name) {
            found.add(
                "binding.http.url",
                format!("has {{{name}}}, which the input schema has no property for"),
            );
        } else if !is_required(input, name) {
            found.add("binding.http.url", format!("has {{{name}}}, which the input schema must require"));
        }
    }
    for (index, name) in http.query_arguments.iter().enumerate().take(MAX_VALUES) {
        let field = format!("binding.http.query_arguments[{index}]");
        if !is_property(input, name) {
            found.add(&field, format!("{name:?} is not a property of the input schema"));
        } else if arguments.contains(name) {
            found.add(&field, format!("{name:?} is used in the address already"));
        }
    }
}

/// The placeholders of an address, which may stand in its path and query only: the host that is reached
/// must not be the model's choice.
fn url_template(template: &str) -> Result<BTreeSet<String>, String> {
    if template.chars().count() > MAX_URL {
        return Err(format!("has more than {MAX_URL} characters"));
    }
    let mut plain = String::new();
    let mut placeholders = BTreeSet::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let inner = rest[at..].strip_prefix('{').and_then(|open| open.split_once('}'));
        let Some((name, after)) = inner.filter(|(name, _)| !name.is_empty() && !name.contains('{')) else {
            return Err("has a brace that is not part of an {argument}".into());
        };
        if !is_past_authority(&plain) {
            return Err(format!("has {{{name}}} before its path; only path and query may vary"));
        }
        placeholders.insert(name.to_owned());
        plain.push('x');
        rest = after;
    }
    plain.push_str(rest);
    http_url(&plain)?;
    Ok(placeholders)
}

fn is_past_authority(start: &str) -> bool {
    start.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']))
}

/// Notes why a text is not an absolute http or https address without user, password and fragment.
fn http_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is not an absolute address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the scheme {:?}; http and https are taken", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; a definition never holds a secret".into());
    }
    if url.fragment().is_some() {
        return Err("has a fragment, which is never sent".into());
    }
    Ok(())
}

fn check_headers(field: &str, headers: &BTreeMap<String, String>, found: &mut Violations) {
    for (name, value) in headers {
        // RFC 9110, section 5.5 (field values).
        if !is_token(name) || RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            found.add(field, format!("{name:?} cannot be set: not a header name, or set by the connection"));
        } else if value.len() > MAX_VALUE || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
        {
            found.add(
                field,
                format!("the value of {name:?} must be printable ASCII of at most {MAX_VALUE} bytes"),
            );
        }
    }
}

/// Everything that is wrong with the way to a server; the first of each pair is the field below `transport`.
pub(crate) fn check_transport(transport: &mcp::Transport) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    match transport {
        mcp::Transport::Stdio { command, args, env } => {
            if command.trim().is_empty() {
                wrong.push(("stdio.command", "is empty".to_owned()));
            }
            let texts = std::iter::once(command).chain(args).chain(env.values());
            if args.len() + env.len() > MAX_VALUES
                || texts.clone().any(|text| text.len() > MAX_VALUE || text.contains('\0'))
            {
                let most =
                    format!("holds a NUL, or more than {MAX_VALUES} texts or {MAX_VALUE} bytes in one");
                wrong.push(("stdio", most));
            }
            if env.keys().any(|name| name.is_empty() || name.contains(['=', '\0'])) {
                wrong.push(("stdio.env", "has a name that is empty or holds = or NUL".to_owned()));
            }
        }
        mcp::Transport::Http { url, headers } => {
            if let Err(text) = http_url(url) {
                wrong.push(("http.url", text));
            }
            let mut found = Violations::default();
            check_headers("", headers, &mut found);
            wrong.extend(found.0.into_iter().map(|violation| ("http.headers", violation.description)));
        }
    }
    wrong
}

/// Whether an input schema has a property of this name at its top.
pub(crate) fn is_property(input: &Value, name: &str) -> bool {
    input.get("properties").and_then(|properties| properties.get(name)).is_some()
}

/// Whether an input schema asks for a property.
pub(crate) fn is_required(input: &Value, name: &str) -> bool {
    let required = input.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn http(url: &str) -> Http {
        Http { body_json: true, ..Http::new("POST", url) }
    }

    fn wrong(http: Http) -> Vec<String> {
        let input = json!({"type": "object", "required": ["id"], "properties": {"id": {}, "q": {}}});
        let mut found = Violations::default();
        check(&Binding::Http(http), Origin::Person, Some(&input), &mut found);
        found.0.into_iter().map(|v| format!("{} {}", v.field, v.description)).collect()
    }

    #[test]
    fn addresses_with_known_placeholders_are_taken() {
        for good in ["https://example.com/users/{id}?n={id}", "http://127.0.0.1:8080", "https://a.b?x={id}"] {
            assert_eq!(wrong(http(good)), Vec::<String>::new(), "{good}");
        }
    }

    #[test]
    fn every_other_address_is_refused() {
        for (bad, says) in [
            ("", "absolute"),
            ("/users/{id}", "before its path"),
            ("users", "absolute"),
            ("ftp://example.com/", "ftp"),
            ("https://{id}.example.com/", "before its path"),
            ("https://{id}/", "before its path"),
            ("{id}", "before its path"),
            ("https://me:secret@example.com/", "secret"),
            ("https://example.com/#x", "fragment"),
            ("https://example.com/{id", "brace"),
            ("https://example.com/id}", "brace"),
            ("https://example.com/{}", "brace"),
            ("https://example.com/{nobody}", "no property"),
            ("https://example.com/{q}", "must require"),
        ] {
            let found = wrong(http(bad));
            assert!(found.len() == 1 && found[0].contains(says), "{bad}: {found:?}");
        }
    }

    #[test]
    fn method_headers_and_query_are_checked() {
        let bad = Http {
            method: "get".into(),
            headers: [("Host", "x"), ("a b", "x"), ("x-ok", "y"), ("x-bad", "a\r\nb: c")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            query_arguments: vec!["q".into(), "none".into(), "id".into()],
            ..http("https://example.com/{id}")
        };
        let found = wrong(bad).join("\n");
        for says in ["method", "\"Host\"", "\"a b\"", "\"x-bad\"", "[1] \"none\"", "[2] \"id\""] {
            assert!(found.contains(says), "{says} in {found}");
        }
        assert!(!found.contains("x-ok") && !found.contains("[0]"), "{found}");
        let get = wrong(Http { method: "GET".into(), ..http("https://example.com/") });
        assert!(get[0].contains("body_json"), "{get:?}");
    }

    #[test]
    fn a_server_needs_a_program_or_an_address() {
        let stdio = |command: &str| mcp::Transport::Stdio {
            command: command.into(),
            args: vec![],
            env: BTreeMap::new(),
        };
        assert_eq!(check_transport(&stdio("server")), []);
        assert_eq!(check_transport(&stdio(" "))[0].0, "stdio.command");
        assert_eq!(check_transport(&stdio("a\0b"))[0].0, "stdio");
        let http = |url: &str| mcp::Transport::Http { url: url.into(), headers: BTreeMap::new() };
        assert_eq!(check_transport(&http("http://127.0.0.1:1/mcp")), []);
        assert_eq!(check_transport(&http("127.0.0.1:1"))[0].0, "http.url");
    }
}
