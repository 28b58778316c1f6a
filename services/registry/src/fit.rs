//! Whether settings go with the tool that they are for: what may be cached, which arguments there are, how
//! it is run. No I/O.

use serde_json::Value;
use types::{Effect, Sensitivity};

use crate::{
    Error,
    check_settings::Found,
    definition::{Binding, Definition, HttpLocation, HttpParameter},
    settings::{IdempotencyKey, Settings},
};

/// A setting that does not go with the tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    part: Part,
    /// Path of the setting.
    pub field: &'static str,
    /// What is wrong with it.
    pub description: String,
}

/// What is given up when a setting is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Cache,
    Semantic,
    IdempotencyKey,
}

/// Notes every misfit.
pub(crate) fn check(settings: &Settings, definition: &Definition, found: &mut Found) -> Result<(), Error> {
    for misfit in misfits(settings, definition)? {
        found.add(misfit.field, misfit.description);
    }
    Ok(())
}

/// Takes out what does not go with the tool, and gives it.
pub(crate) fn drop_misfits(settings: &mut Settings, definition: &Definition) -> Result<Vec<Misfit>, Error> {
    let misfits = misfits(settings, definition)?;
    for misfit in &misfits {
        match misfit.part {
            Part::Cache => settings.cache.enabled = false,
            Part::Semantic => settings.cache.semantic = None,
            Part::IdempotencyKey => settings.idempotency_key = None,
        }
    }
    Ok(misfits)
}

fn misfits(settings: &Settings, definition: &Definition) -> Result<Vec<Misfit>, Error> {
    let mut misfits = Vec::new();
    let mut add = |part, field, description: String| misfits.push(Misfit { part, field, description });
    if settings.cache.enabled {
        if definition.effect == Effect::SideEffect {
            let wrong = "cannot be: the tool is a SIDE_EFFECT, and a kept answer would leave out its effect";
            add(Part::Cache, "cache.enabled", wrong.into());
        }
        if definition.sensitivity == Sensitivity::Restricted {
            add(Part::Cache, "cache.enabled", "cannot be: the tool handles RESTRICTED data".into());
        }
    }
    let input: Value = serde_json::from_str(&definition.input_schema)?;
    let text = |name: &str| is_text(&input, name);
    if let Some(semantic) = settings.cache.semantic.as_ref().filter(|semantic| !text(&semantic.field)) {
        add(Part::Semantic, "cache.semantic.field", no_text(&semantic.field));
    }
    match &settings.idempotency_key {
        Some(IdempotencyKey::Header(name)) => match &definition.binding {
            Binding::Http(http) if http.headers.keys().any(|known| known.eq_ignore_ascii_case(name)) => {
                let wrong = format!("{name:?} is set by the tool's definition already");
                add(Part::IdempotencyKey, "idempotency_key.header", wrong);
            }
            Binding::Grpc(grpc) if grpc.metadata.keys().any(|known| known.eq_ignore_ascii_case(name)) => {
                let wrong = format!("{name:?} is set by the tool's definition already");
                add(Part::IdempotencyKey, "idempotency_key.header", wrong);
            }
            Binding::Grpc(_) if !::grpc::is_metadata_name(&name.to_ascii_lowercase()) => {
                let wrong = format!("{name:?} cannot be an entry of gRPC metadata");
                add(Part::IdempotencyKey, "idempotency_key.header", wrong);
            }
            Binding::Http(_) | Binding::Grpc(_) => {}
            Binding::Builtin(_) | Binding::Mcp(_) => {
                let wrong = "is for HTTP and gRPC tools, and this is none; set argument or meta".to_owned();
                add(Part::IdempotencyKey, "idempotency_key.header", wrong);
            }
        },
        Some(IdempotencyKey::Argument(name)) if !text(name) => {
            add(Part::IdempotencyKey, "idempotency_key.argument", no_text(name));
        }
        Some(IdempotencyKey::Argument(name)) if !is_sent(&definition.binding, name) => {
            let wrong = format!("{name:?} is no part of the request, so that nobody would see the key");
            add(Part::IdempotencyKey, "idempotency_key.argument", wrong);
        }
        Some(IdempotencyKey::Meta(_)) if !matches!(definition.binding, Binding::Mcp(_)) => {
            let wrong = "is for tools of MCP servers, and this is none; set argument or header".to_owned();
            add(Part::IdempotencyKey, "idempotency_key.meta", wrong);
        }
        Some(IdempotencyKey::Argument(_) | IdempotencyKey::Meta(_)) | None => {}
    }
    Ok(misfits)
}

fn no_text(name: &str) -> String {
    format!(
        "{name:?} is not a text argument of the tool: the input schema has no such property of type string"
    )
}

/// Whether an argument reaches whoever does the work: a call with a key is repeated in the belief that it does.
fn is_sent(binding: &Binding, name: &str) -> bool {
    match binding {
        Binding::Http(http) => {
            let placeholder = format!("{{{name}}}");
            // Such a placeholder is another argument's.
            let is_renamed = |parameter: &HttpParameter| {
                parameter.location == HttpLocation::Path
                    && parameter.name == name
                    && parameter.argument != name
            };
            let in_body = match &http.body {
                Some(body) => body.argument.is_empty() || body.argument == name,
                None => http.body_json,
            };
            in_body
                || http.query_arguments.iter().any(|sent| sent == name)
                || http.parameters.iter().any(|parameter| parameter.argument == name)
                || http.url.contains(&placeholder) && !http.parameters.iter().any(is_renamed)
        }
        // Its other arguments say what to do; none of them is sent as it is.
        Binding::Builtin(builtin) if builtin.name == "http_request" => name == "body",
        Binding::Builtin(_) | Binding::Mcp(_) | Binding::Grpc(_) => true,
    }
}

/// Whether an argument is a text by the input schema, directly or by a reference within it.
fn is_text(input: &Value, name: &str) -> bool {
    let Some(property) = input.get("properties").and_then(|properties| properties.get(name)) else {
        return false;
    };
    let target = property.get("$ref").and_then(Value::as_str).and_then(|link| link.strip_prefix('#'));
    let property = target.and_then(|pointer| input.pointer(pointer)).unwrap_or(property);
    match property.get("type") {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(many)) => many.iter().any(|one| one == "string"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        definition::{Http, HttpBody, HttpBodyFormat, HttpStyle, Mcp, tests::definition},
        settings::Semantic,
    };

    fn tool() -> Definition {
        let input = r##"{"type": "object", "$defs": {"T": {"type": "string"}}, "properties": {"q":
            {"type": "string"}, "r": {"$ref": "#/$defs/T"}, "m": {"type": ["null", "string"]}, "n": {"type": "integer"}}}"##;
        Definition { input_schema: input.into(), binding: http(), ..definition() }
    }

    fn http() -> Binding {
        Binding::Http(Http {
            headers: [("X-Mine".into(), "1".into())].into(),
            body_json: true,
            ..Http::new("POST", "https://example.com/")
        })
    }

    fn mcp() -> Binding {
        let transport = mcp::Transport::Http { url: "http://127.0.0.1:1/".into(), headers: [].into() };
        Binding::Mcp(Mcp { server: "srv".into(), tool: "t".into(), transport, credentials: vec![] })
    }

    fn key(key: IdempotencyKey) -> Settings {
        Settings { idempotency_key: Some(key), ..Settings::default() }
    }

    fn semantic(field: &str) -> Settings {
        let mut settings = Settings::default();
        settings.cache.semantic = Some(Semantic { field: field.into(), ..Semantic::default() });
        settings
    }

    /// The misfits' fields; what is left without them fits.
    fn fields(mut settings: Settings, definition: &Definition) -> Vec<&'static str> {
        let dropped = drop_misfits(&mut settings, definition).unwrap();
        assert_eq!(misfits(&settings, definition).unwrap(), [], "dropping them leaves none");
        dropped.into_iter().map(|misfit| misfit.field).collect()
    }

    #[test]
    fn only_answers_without_effect_and_without_restricted_data_are_kept() {
        let mut cached = Settings::default();
        cached.cache.enabled = true;
        let with = |effect, sensitivity| Definition { effect, sensitivity, ..tool() };
        for effect in [Effect::ReadOnly, Effect::Idempotent] {
            assert!(fields(cached.clone(), &with(effect, Sensitivity::Confidential)).is_empty());
            assert_eq!(fields(cached.clone(), &with(effect, Sensitivity::Restricted)), ["cache.enabled"]);
        }
        let both = with(Effect::SideEffect, Sensitivity::Restricted);
        assert_eq!(fields(cached, &both), ["cache.enabled", "cache.enabled"]);
        assert!(fields(Settings::default(), &both).is_empty());
    }

    #[test]
    fn arguments_are_texts_of_the_input_schema() {
        for (name, fits) in [("q", true), ("r", true), ("m", true), ("n", false), ("none", false)] {
            let wanted: &[&str] = if fits { &[] } else { &["cache.semantic.field"] };
            assert_eq!(fields(semantic(name), &tool()), wanted, "{name}");
            let wanted: &[&str] = if fits { &[] } else { &["idempotency_key.argument"] };
            assert_eq!(fields(key(IdempotencyKey::Argument(name.into())), &tool()), wanted, "{name}");
        }
    }

    #[test]
    fn an_argument_that_takes_the_key_is_part_of_the_request() {
        let sent = |url: &str, query: &[&str], body_json| {
            let Binding::Http(http) = http() else { unreachable!() };
            let query_arguments = query.iter().map(|name| (*name).to_owned()).collect();
            let binding = Binding::Http(Http { url: url.into(), query_arguments, body_json, ..http });
            fields(key(IdempotencyKey::Argument("q".into())), &Definition { binding, ..tool() }).is_empty()
        };
        assert!(sent("https://e.com/", &[], true));
        assert!(sent("https://e.com/", &["r", "q"], false));
        assert!(sent("https://e.com/{r}/{q}", &[], false));
        assert!(!sent("https://e.com/q/{r}?q=1", &["r"], false));
        let own = |name: &str| Binding::Builtin(crate::definition::Builtin { name: name.into() });
        let argument = || key(IdempotencyKey::Argument("q".into()));
        let by = |binding| Definition { binding, ..tool() };
        assert_eq!(fields(argument(), &by(own("http_request"))), ["idempotency_key.argument"]);
        assert!(fields(argument(), &by(own("echo"))).is_empty());
        assert!(fields(argument(), &by(mcp())).is_empty());
    }

    #[test]
    fn an_argument_that_takes_the_key_is_sent_as_a_parameter_or_in_the_body() {
        let sent = |url: &str, parameters: &[(&str, &str, HttpLocation)], body: Option<&str>| {
            let parameter = |(argument, name, location): &(&str, &str, HttpLocation)| HttpParameter {
                argument: (*argument).into(),
                name: (*name).into(),
                location: *location,
                style: HttpStyle::Simple,
                explode: false,
                json: false,
            };
            let body = body.map(|argument| HttpBody {
                format: HttpBodyFormat::Json,
                argument: argument.into(),
                content_type: String::new(),
            });
            let parameters = parameters.iter().map(parameter).collect();
            let binding = Binding::Http(Http { parameters, body, ..Http::new("POST", url) });
            fields(key(IdempotencyKey::Argument("q".into())), &Definition { binding, ..tool() }).is_empty()
        };
        let anywhere = "https://e.com/";
        for location in [HttpLocation::Query, HttpLocation::Header, HttpLocation::Cookie] {
            assert!(sent(anywhere, &[("q", "x-key", location)], None), "{location:?}");
            assert!(!sent(anywhere, &[("r", "q", location)], None), "{location:?}");
        }
        assert!(sent("https://e.com/{x}", &[("q", "x", HttpLocation::Path)], None));
        assert!(!sent("https://e.com/{q}", &[("r", "q", HttpLocation::Path)], None));
        assert!(sent(anywhere, &[], Some("")) && sent(anywhere, &[], Some("q")));
        assert!(!sent(anywhere, &[], Some("r")));
    }

    #[test]
    fn a_header_is_for_http_and_meta_for_mcp() {
        let header = |name: &str| key(IdempotencyKey::Header(name.into()));
        let meta = || key(IdempotencyKey::Meta("key".into()));
        let by = |binding| Definition { binding, ..tool() };
        assert!(fields(header("Idempotency-Key"), &by(http())).is_empty());
        assert_eq!(fields(header("x-mine"), &by(http())), ["idempotency_key.header"]);
        assert_eq!(fields(meta(), &by(http())), ["idempotency_key.meta"]);
        assert!(fields(meta(), &by(mcp())).is_empty());
        assert_eq!(fields(header("Idempotency-Key"), &by(mcp())), ["idempotency_key.header"]);
        assert_eq!(fields(header("Idempotency-Key"), &definition()), ["idempotency_key.header"]);
        assert_eq!(fields(meta(), &definition()), ["idempotency_key.meta"]);
    }
}
