//! What a credential must be to be kept. Must never repeat a value: it may be secret.

use ::rpc::FieldViolation;

use super::secret::{Basic, OAuth2Client, OAuth2Refresh, Secret, Text};

/// Longest key, password, token or name in a secret, in bytes: what fits into a header of any server.
const MAX_VALUE: usize = 8_192;
/// Shortest secret, in bytes: what is shorter stands in any answer by chance, and could not be told from it there.
const MIN_SECRET: usize = 8;
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
        Secret::ApiKey(key) => text(&mut wrong, "secret.api_key", key, MIN_SECRET),
        Secret::Basic(Basic { user, password }) => {
            // Without a password the user is the secret.
            let (least_user, least) = if password.is_empty() { (MIN_SECRET, 0) } else { (0, MIN_SECRET) };
            text(&mut wrong, "secret.basic.user", user, least_user);
            text(&mut wrong, "secret.basic.password", password, least);
            if user.expose().contains(':') {
                wrong.push(violation("secret.basic.user", "may not contain a colon (RFC 7617, section 2)"));
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
    text(wrong, "secret.oauth2_client.client_secret", &client.client_secret, MIN_SECRET);
    plain(wrong, "secret.oauth2_client.audience", &client.audience, 0);
    scopes(wrong, "secret.oauth2_client.scopes", &client.scopes);
}

fn oauth_refresh(wrong: &mut Vec<FieldViolation>, refresh: &OAuth2Refresh) {
    token_url(wrong, "secret.oauth2_refresh.token_url", &refresh.token_url);
    plain(wrong, "secret.oauth2_refresh.client_id", &refresh.client_id, 1);
    // A public client has none.
    let least = if refresh.client_secret.is_empty() { 0 } else { MIN_SECRET };
    text(wrong, "secret.oauth2_refresh.client_secret", &refresh.client_secret, least);
    text(wrong, "secret.oauth2_refresh.refresh_token", &refresh.refresh_token, MIN_SECRET);
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

    fn basic(user: &str, password: &str) -> Secret {
        Secret::Basic(Basic { user: user.into(), password: password.into() })
    }

    #[test]
    fn what_could_not_be_sent_is_refused_without_being_repeated() {
        assert!(fields(&Secret::ApiKey("hunter2-key".into())).is_empty());
        for bad in ["", "hunter2-\n", "hunter2\r\nX: y", "hunter2-\0"] {
            assert_eq!(fields(&Secret::ApiKey(bad.into())), ["secret.api_key"]);
        }
        assert_eq!(fields(&Secret::ApiKey("x".repeat(8_193).into())), ["secret.api_key"]);
        assert!(fields(&basic("u", "hunter2:x")).is_empty());
        assert_eq!(fields(&basic("u:hunter2", "")), ["secret.basic.user"]);
        assert_eq!(fields(&basic("", "")), ["secret.basic.user"]);
    }

    #[test]
    fn what_is_so_short_that_it_stands_anywhere_is_no_secret() {
        assert_eq!(fields(&Secret::ApiKey("hunter2".into())), ["secret.api_key"]);
        assert_eq!(fields(&basic("someone-long", "hunter2")), ["secret.basic.password"]);
        assert_eq!(fields(&basic("hunter2", "")), ["secret.basic.user"]);
        assert!(fields(&basic("hunter2-key", "")).is_empty(), "a key in the place of the user");
        assert!(fields(&basic("", "hunter2-key")).is_empty());
        let short = OAuth2Refresh {
            token_url: "https://auth.example.com/token".into(),
            client_id: "id".into(),
            client_secret: "hunter2".into(),
            refresh_token: "hunter2".into(),
            ..OAuth2Refresh::default()
        };
        let expected = ["client_secret", "refresh_token"].map(|f| format!("secret.oauth2_refresh.{f}"));
        assert_eq!(fields(&Secret::OAuth2Refresh(short)), expected);
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
            refresh_token: "hunter2-token".into(),
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
