//! Keys of a JSON Web Key Set (RFC 7517, 7518 section 6, 8037): which are taken, and which is for a token. Pure.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::Miss;

/// Most keys of a set.
const MAX_KEYS: usize = 100;
/// Least and most bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Most bytes of an RSA exponent.
const MAX_EXPONENT: usize = 8;

/// A public key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    id: Option<String>,
    kind: KeyKind,
    /// The one algorithm that it says it is for.
    algorithm: Option<String>,
    pub decoding: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Key {
    /// Whether it may be used to check tokens that say they are signed by this algorithm.
    fn fits(&self, (name, algorithm): (&str, Algorithm)) -> bool {
        let is_kind = match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => self.kind == KeyKind::Rsa,
            Algorithm::ES256 => self.kind == KeyKind::P256,
            Algorithm::ES384 => self.kind == KeyKind::P384,
            Algorithm::EdDSA => self.kind == KeyKind::Ed25519,
            // Those of shared secrets, and whatever comes later.
            _ => false,
        };
        is_kind && self.algorithm.as_deref().is_none_or(|own| own == name)
    }
}

/// The key that a token names, if it is for the token's algorithm.
pub(super) fn pick(keys: &[Key], id: Option<&str>, algorithm: (&str, Algorithm)) -> Result<Key, Miss> {
    let mut named = keys.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
    if named.peek().is_none() {
        return Err(Miss::Unknown);
    }
    let mut fitting = named.filter(|key| key.fits(algorithm));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key.clone()),
        (None, _) => Err(Miss::Unfit),
        (Some(_), Some(_)) => Err(Miss::Ambiguous),
    }
}

/// The keys of a set that may check signatures. Others are passed over, as RFC 7517, section 5, asks.
pub(super) fn read_set(body: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(body).map_err(|_| "answered with something that is not JSON")?;
    let keys =
        set.get("keys").and_then(Value::as_array).ok_or("answered with something that is no key set")?;
    if keys.len() > MAX_KEYS {
        return Err(format!("answered with more than {MAX_KEYS} keys"));
    }
    Ok(keys.iter().filter_map(read).collect())
}

fn read(key: &Value) -> Option<Key> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let is_for_signatures = key.get("use").is_none_or(|purpose| purpose == "sig");
    let may_verify = key.get("key_ops").is_none_or(|operations| {
        operations
            .as_array()
            .is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    });
    // A private key in public: anybody could have signed with it.
    if !is_for_signatures || !may_verify || key.get("d").is_some() {
        return None;
    }
    let (kind, decoding) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (KeyKind::Rsa, rsa(text("n")?, text("e")?)?),
        ("EC", Some("P-256")) => (KeyKind::P256, curve(text("x")?, text("y")?, 32)?),
        ("EC", Some("P-384")) => (KeyKind::P384, curve(text("x")?, text("y")?, 48)?),
        ("OKP", Some("Ed25519")) => {
            let point = decoded(text("x")?).filter(|point| point.len() == 32)?;
            (KeyKind::Ed25519, DecodingKey::from_ed_der(&point))
        }
        _ => return None,
    };
    let algorithm = match key.get("alg") {
        Some(algorithm) => Some(algorithm.as_str()?.to_owned()),
        None => None,
    };
    Some(Key { id: text("kid").map(str::to_owned), kind, algorithm, decoding })
}

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let number = |text: &str| {
        let bytes = decoded(text)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    let (modulus, exponent) = (number(modulus)?, number(exponent)?);
    let is_sound = RSA_BYTES.contains(&modulus.len()) && (1..=MAX_EXPONENT).contains(&exponent.len());
    is_sound.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// An uncompressed point (SEC 1, section 2.3.3).
fn curve(x: &str, y: &str, bytes: usize) -> Option<DecodingKey> {
    let (x, y) = (decoded(x)?, decoded(y)?);
    (x.len() == bytes && y.len() == bytes).then(|| DecodingKey::from_ec_der(&[&[4], &*x, &*y].concat()))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RS256: (&str, Algorithm) = ("RS256", Algorithm::RS256);
    const ES256: (&str, Algorithm) = ("ES256", Algorithm::ES256);

    fn bytes(count: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![7_u8; count])
    }

    fn rsa_key() -> Value {
        json!({"kty": "RSA", "kid": "r", "n": bytes(256), "e": "AQAB"})
    }

    fn read_all(keys: &[Value]) -> Vec<Key> {
        read_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_for_what_it_says_and_nothing_else() {
        let with = |name: &str, value: Value| {
            let mut key = rsa_key();
            key[name] = value;
            read_all(&[key])
        };
        assert!(pick(&read_all(&[rsa_key()]), Some("r"), RS256).is_ok());
        assert!(pick(&with("alg", json!("RS256")), Some("r"), RS256).is_ok());
        assert!(pick(&with("use", json!("sig")), Some("r"), RS256).is_ok());
        assert!(pick(&with("key_ops", json!(["verify"])), Some("r"), RS256).is_ok());
        assert_eq!(pick(&with("alg", json!("PS256")), Some("r"), RS256).err(), Some(Miss::Unfit));
        assert_eq!(pick(&read_all(&[rsa_key()]), Some("r"), ES256).err(), Some(Miss::Unfit));
        for (name, value) in [
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!("verify")),
            ("alg", json!(7)),
            ("d", json!("AQ")),
            ("n", json!(bytes(255))),
            ("n", json!(bytes(1025))),
            ("n", json!("not base64url!")),
            ("e", json!("")),
            ("kty", json!("oct")),
        ] {
            assert!(with(name, value.clone()).is_empty(), "{name} {value}");
        }
    }

    #[test]
    fn points_have_the_length_of_their_curve() {
        let point = |kty: &str, crv: &str, x: usize, y: usize| {
            read_all(&[json!({"kty": kty, "crv": crv, "x": bytes(x), "y": bytes(y)})]).len()
        };
        assert_eq!((point("EC", "P-256", 32, 32), point("EC", "P-384", 48, 48)), (1, 1));
        assert_eq!((point("EC", "P-256", 32, 31), point("EC", "P-384", 32, 32)), (0, 0));
        assert_eq!((point("EC", "secp256k1", 32, 32), point("OKP", "Ed25519", 31, 0)), (0, 0));
        assert_eq!(point("OKP", "Ed25519", 32, 0), 1);
    }

    #[test]
    fn a_token_without_a_key_id_is_for_the_only_key_there_is() {
        let second = json!({"kty": "RSA", "kid": "s", "n": bytes(256), "e": "AQAB"});
        assert!(pick(&read_all(&[rsa_key()]), None, RS256).is_ok());
        let two = read_all(&[rsa_key(), second]);
        assert_eq!(pick(&two, None, RS256).err(), Some(Miss::Ambiguous));
        assert_eq!(pick(&two, Some("t"), RS256).err(), Some(Miss::Unknown));
        let same = read_all(&[rsa_key(), rsa_key()]);
        assert_eq!(pick(&same, Some("r"), RS256).err(), Some(Miss::Ambiguous));
    }

    #[test]
    fn a_set_is_a_set_of_not_too_many() {
        for bad in ["", "[]", "{}", "{\"keys\": {}}", "<html>"] {
            assert!(read_set(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(read_all(&vec![rsa_key(); 100]).len(), 100);
        let many = json!({ "keys": vec![rsa_key(); 101] }).to_string();
        assert!(read_set(many.as_bytes()).unwrap_err().contains("100"));
        assert!(read_all(&[]).is_empty());
    }
}
