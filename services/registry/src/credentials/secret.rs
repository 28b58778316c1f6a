//! What a credential consists of, in memory: wiped when dropped, and without `Debug`, so that no log line and no
//! error ever has it. Serde's form is that of the contract's `CredentialSecret` in protobuf JSON; it is for sealing
//! and for what a source of secrets gives, and must go nowhere else.

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::UnknownWord;

/// Text that may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "may be secret")]
pub(crate) struct Text(Zeroizing<String>);

impl Text {
    /// The text itself. Must not be kept, logged or told.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// The kind of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ApiKey,
    Basic,
    OAuth2Client,
    OAuth2Refresh,
    MutualTls,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] =
        [Self::ApiKey, Self::Basic, Self::OAuth2Client, Self::OAuth2Refresh, Self::MutualTls];

    /// Its name in the database and in messages; part of what sealed secrets are bound to.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Basic => "basic",
            Self::OAuth2Client => "oauth2_client",
            Self::OAuth2Refresh => "oauth2_refresh",
            Self::MutualTls => "mutual_tls",
        }
    }

    /// Whether requests carry a token that is fetched with the secret, not the secret itself.
    pub(crate) fn fetches(self) -> bool {
        match self {
            Self::OAuth2Client | Self::OAuth2Refresh => true,
            Self::ApiKey | Self::Basic | Self::MutualTls => false,
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| UnknownWord::new("credential kind", word))
    }
}

/// What a credential consists of.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) enum Secret {
    /// A key that is sent as it is.
    #[serde(alias = "api_key")]
    ApiKey(Text),
    /// User and password.
    Basic(Basic),
    /// The client credentials grant of OAuth 2.0 (RFC 6749, section 4.4).
    #[serde(rename = "oauth2Client", alias = "oauth2_client")]
    OAuth2Client(OAuth2Client),
    /// The refresh token grant of OAuth 2.0 (RFC 6749, section 6).
    #[serde(rename = "oauth2Refresh", alias = "oauth2_refresh")]
    OAuth2Refresh(OAuth2Refresh),
    /// A client certificate.
    #[serde(alias = "mutual_tls")]
    MutualTls(MutualTls),
}

impl Secret {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::ApiKey(_) => Kind::ApiKey,
            Self::Basic(_) => Kind::Basic,
            Self::OAuth2Client(_) => Kind::OAuth2Client,
            Self::OAuth2Refresh(_) => Kind::OAuth2Refresh,
            Self::MutualTls(_) => Kind::MutualTls,
        }
    }
}

/// User and password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) struct Basic {
    pub user: Text,
    pub password: Text,
}

/// What the client credentials grant needs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) struct OAuth2Client {
    #[serde(alias = "token_url")]
    pub token_url: String,
    #[serde(alias = "client_id")]
    pub client_id: String,
    #[serde(alias = "client_secret")]
    pub client_secret: Text,
    pub scopes: Vec<String>,
    pub audience: String,
    #[serde(alias = "secret_in_body")]
    pub secret_in_body: bool,
}

/// What the refresh token grant needs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) struct OAuth2Refresh {
    #[serde(alias = "token_url")]
    pub token_url: String,
    #[serde(alias = "client_id")]
    pub client_id: String,
    #[serde(alias = "client_secret")]
    pub client_secret: Text,
    #[serde(alias = "refresh_token")]
    pub refresh_token: Text,
    pub scopes: Vec<String>,
    #[serde(alias = "secret_in_body")]
    pub secret_in_body: bool,
}

/// A client certificate.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[allow(missing_debug_implementations, reason = "is secret")]
#[allow(clippy::struct_field_names, reason = "the names of the contract")]
pub(crate) struct MutualTls {
    #[serde(alias = "certificate_pem")]
    pub certificate_pem: Text,
    #[serde(alias = "private_key_pem")]
    pub private_key_pem: Text,
    #[serde(alias = "ca_pem")]
    pub ca_pem: Text,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_contract_in_both_spellings_of_its_names() {
        let camel =
            r#"{"oauth2Client":{"tokenUrl":"u","clientId":"i","clientSecret":"s","secretInBody":true}}"#;
        let snake = r#"{"oauth2_client":{"token_url":"u","client_id":"i","client_secret":"s","secret_in_body":true}}"#;
        let read: Secret = serde_json::from_str(camel).unwrap();
        assert!(read == serde_json::from_str::<Secret>(snake).unwrap());
        assert_eq!(read.kind(), Kind::OAuth2Client);
        let Secret::OAuth2Client(client) = &read else { panic!("another kind") };
        assert!(client.secret_in_body && client.client_secret.expose() == "s");
        for (text, kind) in [
            (r#"{"apiKey":"k"}"#, Kind::ApiKey),
            (r#"{"basic":{"user":"u","password":"p"}}"#, Kind::Basic),
            (r#"{"oauth2Refresh":{"refreshToken":"r"}}"#, Kind::OAuth2Refresh),
            (r#"{"mutualTls":{"certificatePem":"c"}}"#, Kind::MutualTls),
        ] {
            let secret: Secret = serde_json::from_str(text).unwrap();
            assert_eq!(secret.kind(), kind, "{text}");
            let again = serde_json::to_vec(&secret).unwrap();
            assert!(serde_json::from_slice::<Secret>(&again).unwrap() == secret, "{text}");
            assert_eq!(kind.as_str().parse::<Kind>(), Ok(kind));
        }
        assert!(serde_json::from_str::<Secret>(r#"{"apiKey":"k","basic":{}}"#).is_err(), "two kinds");
        assert!(serde_json::from_str::<Secret>(r#"{"basic":{"pasword":"x"}}"#).is_err(), "an unknown field");
    }
}
