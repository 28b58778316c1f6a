//! What a credential must be to be kept. Must never repeat a value: it may be secret.

use ::rpc::FieldViolation;

use super::secret::{Basic, OAuth2Client, OAuth2Refresh, Secret, Text};

/// Longest key, password, token or name in a secret, in bytes: what fits into a header of any server.
const MAX_VALUE: usize = 8_192;
/// Most scopes.
const MAX_SCOPES: usize = 100;

/// One field and what is wrong with it.
pub(super) fn violation(field: &str, description: impl Into<String>) -> FieldViolation {
    FieldViolation { field: field.to_owned(), description: description.into() }
}

/// What is wrong with a name.
pub(super) fn name(name: &str) -> Option<FieldViolation> {
    let is_sound = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    (!is_sound).then(|| violation("name", "must be 1 to 64 characters of a-z, 0-9, _ and -"))
}

/// Everything that is wrong with a secret, but for certificates, which are parsed when they are kept.
pub(super) fn secret(secret: &Secret) -> Vec<FieldViolation> {
    let mut wrong = Vec::new();
    match secret {
        Secret::ApiKey(key) => text(&mut wrong, "secret.api_key", key, 1),
        Secret::Basic(Basic { user, password }) => {
            text(&mut wrong, "secret.basic.user", user, 0);
            text(&mut wrong, "secret.basic.password", password, 0);
            if user.expose().contains(':') {
                wrong.push(violation("secret.basic.user", "may not contain a colon (RFC 7617, section 2)"));
            }
            if user.is_empty() && password.is_empty() {
                wrong.push(violation("secret.basic", "needs a user, a password or both"));
            }
        }
        Secret::OAuth2Client(client) => oauth_client(&mut wrong, client),
        Secret::OAuth2Refresh(refresh) => oauth_refresh(&mut wrong, refresh),
        Secret::MutualTls(_) => {}
    }
    wrong
}

fn oauth_client(wrong: &mut Vec<FieldViolation>, client: &OAuth2Client) {
    token_url(wrong, "secret.oauth2_client.token_url", &client.token_url);
    plain(wrong, "secret.oauth2_client.client_id", &client.client_id, 1);
    text(wrong, "secret.oauth2_client.client_secret", &client.client_secret, 1);
    plain(wrong, "secret.oauth2_client.audience", &client.audience, 0);
    scopes(wrong, "secret.oauth2_client.scopes", &client.scopes);
}

fn oauth_refresh(wrong: &mut Vec<FieldViolation>, refresh: &OAuth2Refresh) {
    token_url(wrong, "secret.oauth2_refresh.token_url", &refresh.token_url);
    plain(wrong, "secret.oauth2_refresh.client_id", &refresh.client_id, 1);
    text(wrong, "secret.oauth2_refresh.client_secret", &refresh.client_secret, 0);
    text(wrong, "secret.oauth2_refresh.refresh_token", &refresh.refresh_token, 1);
    scopes(wrong, "secret.oauth2_refresh.scopes", &refresh.scopes);
}

fn text(wrong: &mut Vec<FieldViolation>, field: &str, value: &Text, least: usize) {
    plain(wrong, field, value.expose(), least);
}

fn plain(wrong: &mut Vec<FieldViolation>, field: &str, value: &str, least: usize) {
    if !(least..=MAX_VALUE).contains(&value.len()) {
        wrong.push(violation(field, format!("must be {least} to {MAX_VALUE} bytes")));
    } else if value.chars().any(char::is_control) {
        wrong.push(violation(field, "may not contain a line break or another control character"));
    }
}

fn token_url(wrong: &mut Vec<FieldViolation>, field: &str, value: &str) {
    if value.len() > MAX_VALUE || url::Url::parse(value).is_err() {
        wrong.push(violation(field, "must be an address such as https://auth.example.com/token"));
    }
}

/// RFC 6749, section 3.3: scopes are joined by spaces, so none may contain one.
fn scopes(wrong: &mut Vec<FieldViolation>, field: &str, scopes: &[String]) {
    let is_sound = |scope: &String| {
        !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    let size: usize = scopes.iter().map(String::len).sum();
    if scopes.len() > MAX_SCOPES || size > MAX_VALUE || !scopes.iter().all(is_sound) {
        wrong.push(violation(field, "must be at most 100 words without spaces, quotes and backslashes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(checked: &Secret) -> Vec<String> {
        let wrong = secret(checked);
        assert!(wrong.iter().all(|each| !each.description.contains("hunter2")), "{wrong:?}");
        wrong.into_iter().map(|each| each.field).collect()
    }

    #[test]
    fn what_could_not_be_sent_is_refused_without_being_repeated() {
        assert!(fields(&Secret::ApiKey("hunter2".into())).is_empty());
        for bad in ["", "hunter2\n", "hunter2\r\nX: y", "hunter2\0"] {
            assert_eq!(fields(&Secret::ApiKey(bad.into())), ["secret.api_key"]);
        }
        assert_eq!(fields(&Secret::ApiKey("x".repeat(8_193).into())), ["secret.api_key"]);
        let basic = |user: &str, password: &str| {
            Secret::Basic(Basic { user: user.into(), password: password.into() })
        };
        assert!(fields(&basic("u", "hunter2:x")).is_empty());
        assert_eq!(fields(&basic("u:hunter2", "")), ["secret.basic.user"]);
        assert_eq!(fields(&basic("", "")), ["secret.basic"]);
    }

    #[test]
    fn a_grant_names_its_endpoint_client_and_secret() {
        let client = OAuth2Client::default();
        let expected =
            ["token_url", "client_id", "client_secret"].map(|f| format!("secret.oauth2_client.{f}"));
        assert_eq!(fields(&Secret::OAuth2Client(client)), expected);
        let refresh = OAuth2Refresh {
            token_url: "https://auth.example.com/token".into(),
            client_id: "id".into(),
            refresh_token: "hunter2".into(),
            scopes: vec!["read".into(), "a b".into()],
            ..OAuth2Refresh::default()
        };
        assert_eq!(fields(&Secret::OAuth2Refresh(refresh)), ["secret.oauth2_refresh.scopes"]);
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "git-hub_1", &"x".repeat(64)] {
            assert!(name(good).is_none(), "{good}");
        }
        for bad in ["", "A", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(name(bad).is_some(), "{bad}");
        }
    }
}
