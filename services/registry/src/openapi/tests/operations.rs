//! What an operation is called, what it is said to do, and how its pages are asked for.

use super::*;

#[test]
fn an_operation_becomes_a_tool() {
    let paths = json!({"/users/{id}": {"get": {
        "operationId": "getUser", "summary": "Read a user", "description": "Reads one\u{200b} user.\r\n\r\n\r\nBy id.",
        "tags": ["users", "people"],
        "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"},
            "description": "Which one", "example": 7}],
        "responses": {"200": {"description": "ok", "content": {"application/json": {"schema":
            {"type": "object", "properties": {"name": {"type": "string", "example": "x"}}}}}}},
    }}});
    let made = one(document(paths, json!({})));
    let definition = &made.definition;
    assert_eq!((definition.name.as_str(), definition.provider.as_str()), ("api.get_user", "api"));
    assert_eq!(definition.title, "Read a user");
    assert_eq!(definition.description, "Read a user.\n\nReads one user.\n\nBy id.");
    assert_eq!((definition.effect, definition.category), (Effect::ReadOnly, Category::ApiIntegration));
    assert_eq!(definition.capabilities, ["integrate"]);
    assert_eq!(definition.labels["openapi.tags"], "users, people");
    assert_eq!(definition.labels["openapi.operation"], "GET /users/{id}");
    assert_eq!(made.http().url, "https://api.example.com/v1/users/{id}");
    assert_eq!(made.http().headers["accept"], "application/json");
    assert_eq!(
        made.input(),
        json!({"type": "object", "required": ["id"], "additionalProperties": false,
            "properties": {"id": {"type": "integer", "description": "Which one", "examples": [7]}}})
    );
    assert_eq!(made.output(), json!({"type": "object", "properties": {"name": {"type": "string"}}}));
    assert_eq!(made.notes, "");
}

#[test]
fn methods_say_what_an_operation_does_and_a_stranger_can_only_say_worse() {
    let operation = |said: &str| json!({"summary": "x", "x-toolcrib-effect": said, "responses": {}});
    let plain = || json!({"summary": "x", "responses": {}});
    let paths = json!({
        "/a": {"get": plain(), "put": plain(), "post": plain(), "patch": plain(), "delete": plain(), "head": plain()},
        "/b": {"get": operation("SIDE_EFFECT"), "post": operation("read_only"), "put": operation("nonsense")},
    });
    let all = made(request(document(paths, json!({}))));
    let effect = |source: &str| all[source].as_ref().map(|made| made.definition.effect).map_err(Clone::clone);
    for (source, expected) in [
        ("GET /a", Effect::ReadOnly),
        ("PUT /a", Effect::Idempotent),
        ("DELETE /a", Effect::Idempotent),
        ("POST /a", Effect::SideEffect),
        ("PATCH /a", Effect::SideEffect),
        ("GET /b", Effect::SideEffect),
        ("POST /b", Effect::SideEffect),
    ] {
        assert_eq!(effect(source), Ok(expected), "{source}");
    }
    assert!(effect("HEAD /a").unwrap_err().contains("HEAD"));
    assert!(effect("PUT /b").unwrap_err().contains("nonsense"));
}

#[test]
fn that_get_only_reads_is_believed_only_where_the_document_is_trusted() {
    let operation = |said: &str| json!({"summary": "x", "x-toolcrib-effect": said, "responses": {}});
    let paths = json!({"/a": {"get": {"responses": {}}, "put": {"responses": {}}},
        "/b": {"get": operation("read_only")}, "/c": {"get": operation("side_effect")}});
    let bytes = document(paths, json!({}));
    let effects = |trust_effects| {
        let defaults = Defaults { trust_effects, ..Defaults::default() };
        let all = made(Request { defaults, ..request(bytes.clone()) });
        all.into_values().map(Result::unwrap).map(|made| (made.definition.effect, made.notes)).collect()
    };
    let told = |effect| (effect, "taken as IDEMPOTENT".to_owned());
    let plain = |effect| (effect, String::new());
    let doubted: Vec<(Effect, String)> = effects(false);
    let doubted: Vec<_> = doubted
        .into_iter()
        .map(|(effect, note)| (effect, note.split(':').next().unwrap().to_owned()))
        .collect();
    // GET /a, GET /b, GET /c, PUT /a.
    use Effect::{Idempotent, ReadOnly, SideEffect};
    assert_eq!(doubted, [told(Idempotent), told(Idempotent), plain(SideEffect), plain(Idempotent)]);
    assert_eq!(effects(true), [plain(ReadOnly), plain(ReadOnly), plain(SideEffect), plain(Idempotent)]);
}

#[test]
fn pages_are_asked_for_as_the_document_says_or_shows() {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let answer = |schema: Value, link: bool| {
        let headers = if link { json!({"link": {"schema": {"type": "string"}}}) } else { json!({}) };
        json!({"200": {"headers": headers, "content": {"application/json": {"schema": schema}}}})
    };
    let get = |name: &str, responses: Value, more: Value| {
        let mut get = json!({"parameters": [parameter(name), parameter("other")], "responses": responses});
        get.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "get": get })
    };
    let list = json!({"type": "array"});
    let cursor = json!({"properties": {"nextPageToken": {"type": "string"}}});
    let given = |given: Value| json!({ "x-toolcrib-pagination": given });
    let paths = json!({
        "/link": get("page", answer(list.clone(), true), json!({})),
        "/no-link": get("page", answer(list.clone(), false), json!({})),
        "/cursor": get("pageToken", answer(cursor, false), json!({})),
        "/given": get("at", answer(list.clone(), true), given(json!({"cursor_pointer": "/meta/next", "argument": "at"}))),
        "/wrong": get("at", answer(list.clone(), true), given(json!({"cursor_pointer": "meta", "argument": "at"}))),
        "/nobody": get("at", answer(list, true), given(json!({"link_parameter": "x", "argument": "none"}))),
    });
    let all = made(request(document(paths, json!({}))));
    let pagination = |source: &str| {
        let made = all[source].as_ref().map_err(Clone::clone)?;
        Ok::<_, String>(
            made.http().pagination.clone().map(|pagination| (pagination.argument, pagination.next)),
        )
    };
    let link = NextPage::LinkParameter("page".into());
    assert_eq!(pagination("GET /link"), Ok(Some(("page".into(), link))));
    assert_eq!(pagination("GET /no-link"), Ok(None));
    let pointer = |text: &str| NextPage::CursorPointer(text.into());
    assert_eq!(pagination("GET /cursor"), Ok(Some(("pageToken".into(), pointer("/nextPageToken")))));
    assert_eq!(pagination("GET /given"), Ok(Some(("at".into(), pointer("/meta/next")))));
    assert!(pagination("GET /wrong").unwrap_err().contains("cursor_pointer"));
    assert!(pagination("GET /nobody").unwrap_err().contains("\"none\""));
    let wrapped = all["GET /link"].as_ref().map(Made::output).unwrap_or_default();
    assert_eq!(wrapped["properties"]["result"], json!({"type": "array"}));
    assert_eq!(wrapped["required"], json!(["result", "next_arguments"]));
}

#[test]
fn words_are_cut_and_deprecation_is_told() {
    let paths = json!({
        "/a": {"get": {"deprecated": true, "summary": "s".repeat(300), "description": "é".repeat(9_000), "responses": {}}},
        "/b": {"get": {"responses": {}}},
    });
    let all = made(request(document(paths, json!({}))));
    let a = all["GET /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!((a.definition.title.chars().count(), a.definition.description.chars().count()), (200, 8_192));
    assert!(a.definition.description.starts_with("Deprecated. ") && a.notes.contains("deprecated"));
    let b = all["GET /b"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(
        (b.definition.description.as_str(), b.definition.title.as_str()),
        ("GET /b of Test.", "GET /b")
    );
}

#[test]
fn what_is_assumed_fills_what_the_document_does_not_say() {
    let paths = json!({"/a": {"get": {"x-toolcrib-rate-limit-per-minute": 7, "responses": {}}}, "/b": {"get": {"responses": {}}}});
    let defaults = Defaults {
        category: Some(Category::Communication),
        capabilities: vec!["search".into()],
        sensitivity: Some(types::Sensitivity::Confidential),
        timeout_ms: 5_000,
        rate_limit_per_minute: 9,
        trust_effects: true,
    };
    let all = made(Request { defaults, allow_private_network: true, ..request(document(paths, json!({}))) });
    let definition = |source: &str| all[source].as_ref().map(|made| made.definition.clone()).unwrap();
    let (a, b) = (definition("GET /a"), definition("GET /b"));
    assert_eq!((a.rate_limit_per_minute, b.rate_limit_per_minute), (7, 9));
    assert_eq!((b.category, b.timeout_ms), (Category::Communication, 5_000));
    assert_eq!(
        (b.capabilities, b.sensitivity),
        (vec!["search".to_owned()], types::Sensitivity::Confidential)
    );
    assert!(all["GET /b"].as_ref().is_ok_and(|made| made.http().allow_private_network));
    let wrong = Defaults {
        capabilities: vec!["No".into()],
        timeout_ms: 1,
        rate_limit_per_minute: -1,
        ..Defaults::default()
    };
    let told = wrong.check().unwrap_err().to_string();
    for field in ["defaults.capabilities", "defaults.timeout_ms", "defaults.rate_limit_per_minute"] {
        assert!(told.contains(field), "{told}");
    }
}
