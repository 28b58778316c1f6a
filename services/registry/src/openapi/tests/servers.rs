//! Which server a tool asks, and which credentials go there and nowhere else.

use super::*;

#[test]
fn servers_are_chosen_from_near_to_far_and_the_operator_knows_better() {
    let server = |url: &str| json!([{"url": url}, {"url": "https://second.example.com"}]);
    let paths = json!({
        "/a": {"get": {"responses": {}}},
        "/b": {"servers": server("https://path.example.com"), "get": {"responses": {}},
            "post": {"servers": server("https://op.example.com/"), "responses": {}}},
        "/c": {"servers": [{"url": "https://{region}.example.com:{port}/{base}", "variables": {
            "region": {"default": "eu"}, "port": {"default": 8443}, "base": {"default": "v2"}}}],
            "get": {"responses": {}}},
        "/d": {"servers": server("/relative"), "get": {"responses": {}}},
        "/e": {"servers": server("https://{tenant}.example.com"), "get": {"responses": {}}},
    });
    let bytes = document(paths, json!({}));
    let all = made(request(bytes.clone()));
    let url = |source: &str| all[source].as_ref().map(|made| made.http().url.clone()).map_err(Clone::clone);
    assert_eq!(url("GET /a").unwrap(), "https://api.example.com/v1/a");
    assert_eq!(url("GET /b").unwrap(), "https://path.example.com/b");
    assert_eq!(url("POST /b").unwrap(), "https://op.example.com/b");
    assert_eq!(url("GET /c").unwrap(), "https://eu.example.com:8443/v2/c");
    assert!(url("GET /d").unwrap_err().contains("server_url"));
    assert!(url("GET /e").unwrap_err().contains("server_url"));
    let given = made(Request { server_url: "http://127.0.0.1:8080/base/".into(), ..request(bytes.clone()) });
    for (source, made) in given {
        let url = made.unwrap().http().url.clone();
        assert_eq!(url, format!("http://127.0.0.1:8080/base{}", source.split_once(' ').unwrap().1));
    }
    for bad in ["example.com", "ftp://a/", "https://u:p@a/", "https://a/?q=1", "https://{a}/"] {
        let told = refusal(Request { server_url: bad.into(), ..request(bytes.clone()) });
        assert!(told.contains("server_url"), "{bad}: {told}");
    }
}

#[test]
fn no_path_leads_to_another_host() {
    let get = json!({"get": {"responses": {}}});
    let paths =
        json!({".evil.com/collect": get, "@evil.com/": get, ":8443/a": get, "//evil.com/a": get, "/a": get});
    let bytes = document(paths, json!({}));
    let pinned = "https://api.good.com".to_owned();
    for (server_url, base) in [(pinned.clone(), pinned), (String::new(), "https://api.example.com/v1".into())]
    {
        let all = made(Request { server_url, ..request(bytes.clone()) });
        for path in [".evil.com/collect", "@evil.com/", ":8443/a"] {
            let told = all[&format!("GET {path}")].as_ref().err().unwrap();
            assert!(told.contains("slash") && told.contains(path), "{told}");
        }
        for path in ["/a", "//evil.com/a"] {
            let made = all[&format!("GET {path}")].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
            assert_eq!(made.http().url, format!("{base}{path}"));
        }
    }
}

#[test]
fn a_credential_goes_to_one_server_and_never_in_the_open() {
    let at = |server: &str| json!({"servers": [{"url": server}], "get": {"responses": {}}});
    let paths = json!({
        "/own": {"get": {"responses": {}}}, "/same": at("https://API.example.com:443/v2"),
        "/other": at("https://evil.com"), "/port": at("https://api.example.com:8443"),
        "/http": at("http://api.example.com"), "/free": {"servers": [{"url": "https://evil.com"}],
            "get": {"security": [], "responses": {}}},
    });
    let bytes = document(paths, json!({}));
    let any: BTreeMap<String, String> = [("*".to_owned(), "key".to_owned())].into();
    let refused = |server_url: &str, allow_private_network| {
        let (credentials, server_url) = (any.clone(), server_url.to_owned());
        let all = made(Request { server_url, credentials, allow_private_network, ..request(bytes.clone()) });
        let refused = all.into_iter().filter_map(|(source, made)| Some((source, made.err()?)));
        refused.collect::<BTreeMap<_, _>>()
    };
    let away = refused("", true);
    assert_eq!(away.keys().collect::<Vec<_>>(), ["GET /http", "GET /other", "GET /port"]);
    assert!(away.values().all(|told| told.contains("give server_url")), "{away:?}");
    assert!(refused("https://api.good.com", false).is_empty());
    let open = refused("http://api.good.com", false);
    assert_eq!(open.len(), 5);
    assert!(open.values().all(|told| told.contains("over http")), "{open:?}");
    assert!(refused("http://127.0.0.1:9", true).is_empty());
    // Without a credential the document may lead where it likes.
    assert!(made(request(bytes)).values().all(Result::is_ok));
}

#[test]
fn credentials_stand_for_the_first_way_in_that_is_given_whole() {
    let components = json!({"securitySchemes": {
        "key": {"type": "apiKey", "in": "header", "name": "X-Key", "x-toolcrib-prefix": "Key "},
        "query": {"type": "apiKey", "in": "query", "name": "api_key"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
        "bearer": {"type": "http", "scheme": "Bearer"}, "basic": {"type": "http", "scheme": "basic"},
        "digest": {"type": "http", "scheme": "digest"}, "oauth": {"type": "oauth2", "flows": {}},
        "oidc": {"type": "openIdConnect"}, "tls": {"type": "mutualTLS"},
    }});
    let get = |security: Value| {
        json!({"get": {"security": security, "responses": {}, "parameters": [
        {"name": "api_key", "in": "query", "schema": {}}, {"name": "x-key", "in": "header", "schema": {}}]}})
    };
    let paths = json!({
        "/both": get(json!([{"key": [], "tls": []}, {"query": []}])),
        "/second": get(json!([{"digest": []}, {"query": []}])),
        "/cookie": get(json!([{"cookie": []}])), "/bearer": get(json!([{"bearer": []}])),
        "/basic": get(json!([{}, {"basic": []}])), "/oauth": get(json!([{"oauth": ["a"]}])),
        "/oidc": get(json!([{"oidc": []}])), "/digest": get(json!([{"digest": []}])),
        "/open": get(json!([])), "/optional": get(json!([{}, {"digest": []}])),
        "/inherited": {"get": {"responses": {}}},
    });
    let mut text: Value = serde_json::from_slice(&document(paths, components)).unwrap();
    text["security"] = json!([{"bearer": []}]);
    let bytes = text.to_string().into_bytes();
    let named =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), format!("{name}-secret"))).collect();
    let all = made(Request {
        credentials: named(&["key", "query", "cookie", "bearer", "basic", "oauth", "oidc", "tls", "digest"]),
        ..request(bytes.clone())
    });
    let used = |source: &str| {
        let made = all[source].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
        let credentials = &made.http().credentials;
        credentials
            .iter()
            .map(|used| (used.credential.clone(), used.place.clone(), used.prefix.clone()))
            .collect::<Vec<_>>()
    };
    let plain = |name: &str| (format!("{name}-secret"), None, String::new());
    let header = Some(CredentialPlace::Header("X-Key".into()));
    assert_eq!(used("GET /both"), [("key-secret".into(), header, "Key ".into()), plain("tls")]);
    let query = Some(CredentialPlace::Query("api_key".into()));
    assert_eq!(used("GET /second"), [("query-secret".into(), query, String::new())]);
    let cookie = Some(CredentialPlace::Cookie("sid".into()));
    assert_eq!(used("GET /cookie"), [("cookie-secret".into(), cookie, String::new())]);
    for name in ["bearer", "basic", "oauth", "oidc"] {
        assert_eq!(used(&format!("GET /{name}")), [plain(name)]);
    }
    assert_eq!(used("GET /inherited"), [plain("bearer")]);
    assert_eq!((used("GET /open"), used("GET /optional"), used("GET /digest")), (vec![], vec![], vec![]));
    let properties = |source: &str| {
        let input = all[source].as_ref().unwrap_or_else(|reason| panic!("{reason}")).input();
        input["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    // What holds a key is no argument, whether or not a credential is given.
    assert_eq!(properties("GET /both"), Vec::<String>::new());
    assert_eq!(properties("GET /cookie"), ["api_key", "x-key"]);

    let none = made(request(bytes.clone()));
    let note = |source: &str| none[source].as_ref().map(|made| made.notes.clone()).unwrap_or_default();
    assert!(note("GET /both").contains("key and tls, or query:"), "{}", note("GET /both"));
    assert!(note("GET /digest").contains("does not know") && note("GET /inherited").contains("bearer"));
    assert_eq!((note("GET /open"), note("GET /optional")), (String::new(), String::new()));
    let every = [("*".to_owned(), "any".to_owned())].into();
    let any = made(Request { credentials: every, ..request(bytes.clone()) });
    let any =
        |source: &str| any[source].as_ref().map(|made| made.http().credentials.len()).unwrap_or_default();
    assert_eq!((any("GET /inherited"), any("GET /open"), any("GET /both")), (1, 0, 1));
    let told = refusal(Request { credentials: named(&["nobody"]), ..request(bytes) });
    assert!(told.contains("nobody") && told.contains("bearer"), "{told}");
}
