//! Every claim at its boundaries.

use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn issuer(changes: &Value) -> Issuer {
    let mut settings = json!({
        "name": "okta", "issuer": "https://id.example.com/", "audiences": ["toolcrib", "other"],
        "jwks_url": "https://id.example.com/keys", "algorithms": ["RS256"], "team_claim": "team",
        "user_claim": "email", "scopes_claim": "scope", "leeway_s": 30,
    });
    for (key, value) in changes.as_object().unwrap() {
        settings[key] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

fn token(changes: &Value) -> Claims {
    let mut claims = json!({
        "iss": "https://id.example.com/", "aud": "toolcrib", "exp": NOW + 60, "sub": "scout", "team": "dev",
        "jti": "t-1",
    });
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
            value => claims[key] = value.clone(),
        }
    }
    claims.as_object().unwrap().clone()
}

fn read_at(settings: &Value, claims: &Value, seconds: i64) -> Result<Claimed, &'static str> {
    let now = DateTime::from_timestamp(seconds, 0).unwrap();
    read(&issuer(settings), &token(claims), now).map_err(|not_taken| {
        assert_eq!(not_taken.token, "okta:t-1");
        not_taken.cause
    })
}

fn cause(claims: &Value) -> Option<&'static str> {
    read_at(&json!({}), claims, NOW).err()
}

#[test]
fn a_token_says_who_for_whom_and_until_when() {
    let claimed =
        read_at(&json!({}), &json!({"email": "ann@example.com", "scope": "tools_call x tools_read"}), NOW);
    assert_eq!(
        claimed.unwrap(),
        Claimed {
            team: "dev".into(),
            agent: "scout".into(),
            user: "ann@example.com".into(),
            scopes: vec![Scope::ToolsRead, Scope::ToolsCall],
            id: "okta:t-1".into(),
            expire_time: DateTime::from_timestamp(NOW + 60, 0).unwrap(),
        }
    );
    let plain = read_at(&json!({}), &json!({}), NOW).unwrap();
    assert_eq!((plain.user.as_str(), plain.scopes), ("", vec![]));
}

#[test]
fn times_have_exact_boundaries() {
    let at = |seconds| read_at(&json!({}), &json!({"nbf": NOW - 100, "exp": NOW}), seconds).err();
    assert_eq!(
        (at(NOW + 29), at(NOW + 30), at(NOW + 31)),
        (None, Some("it has ended"), Some("it has ended"))
    );
    assert_eq!((at(NOW - 130), at(NOW - 131)), (None, Some("it is not valid yet")));
    let issued = |iat: i64| cause(&json!({ "iat": iat }));
    assert_eq!((issued(NOW + 30), issued(NOW + 31)), (None, Some("it is not valid yet")));
    let aged = |iat: Value| read_at(&json!({"max_age_s": 100}), &json!({ "iat": iat }), NOW).err();
    assert_eq!((aged(json!(NOW - 130)), aged(json!(NOW - 131))), (None, Some("it is too old")));
    assert_eq!(aged(Value::Null), Some("it does not say when it was issued"));
    assert_eq!(cause(&json!({"exp": NOW as f64 + 0.5})), None);
    assert_eq!(cause(&json!({"exp": Value::Null})), Some("it has no end"));
    for odd in [json!("1900000000"), json!(true), json!([NOW]), json!(1e300)] {
        assert_eq!(cause(&json!({ "exp": odd })), Some("its times are malformed"), "{odd}");
        assert!(cause(&json!({ "nbf": odd })).is_some(), "{odd}");
    }
}

#[test]
fn an_audience_is_ours_to_the_letter() {
    for ours in [json!("toolcrib"), json!(["a", "toolcrib"]), json!("other")] {
        assert_eq!(cause(&json!({ "aud": ours })), None, "{ours}");
    }
    for foreign in
        [json!("Toolcrib"), json!("toolcrib "), json!([]), json!(["a"]), json!(7), json!({}), Value::Null]
    {
        assert_eq!(cause(&json!({ "aud": foreign })), Some("it is for another audience"), "{foreign}");
    }
}

#[test]
fn agent_team_and_user_have_the_shape_of_names() {
    for odd in [json!("Scout"), json!("a b"), json!(""), json!(7), Value::Null, json!(["scout"])] {
        assert_eq!(cause(&json!({ "sub": odd })), Some("it names no agent"), "{odd}");
        assert_eq!(cause(&json!({ "team": odd })), Some("it names no team"), "{odd}");
    }
    for odd in
        [json!("a b"), json!(""), json!("a\n"), json!("é"), json!("x".repeat(257)), json!(["ann"]), json!(7)]
    {
        assert!(cause(&json!({ "email": odd })).is_some(), "{odd}");
    }
    assert_eq!(cause(&json!({"email": "x".repeat(256)})), None);
    let nested = json!({"agent_claim": "/realm/agent", "team_claim": null, "team": "ops"});
    let claimed = read_at(&nested, &json!({"realm": {"agent": "deep"}}), NOW).unwrap();
    assert_eq!((claimed.agent.as_str(), claimed.team.as_str()), ("deep", "ops"));
    assert_eq!(read_at(&nested, &json!({"realm": 7}), NOW).err(), Some("it names no agent"));
}

#[test]
fn scopes_that_are_not_known_open_nothing() {
    let none = Some("it has no scope that is known");
    for odd in [
        json!("openid email"),
        json!(""),
        json!([]),
        json!(["x", 7]),
        json!(7),
        json!({}),
        json!("TOOLS_READ"),
    ] {
        assert_eq!(cause(&json!({ "scope": odd })), none, "{odd}");
    }
    let listed = read_at(&json!({}), &json!({"scope": ["x", "audit_read"]}), NOW).unwrap();
    assert_eq!(listed.scopes, [Scope::AuditRead]);
}

#[test]
fn a_token_without_an_id_has_one_all_the_same() {
    let id =
        |claims: &Value| read(&issuer(&json!({})), &token(claims), DateTime::from_timestamp(NOW, 0).unwrap());
    let (one, same) =
        (id(&json!({"jti": Value::Null})).unwrap().id, id(&json!({"jti": Value::Null})).unwrap().id);
    let other = id(&json!({"jti": Value::Null, "x": 1})).unwrap().id;
    let odd = id(&json!({"jti": "a\nb"})).unwrap().id;
    assert!(one == same && one != other && odd != one && !odd.contains('\n'), "{one} {other} {odd}");
}
