//! Canonical JSON (RFC 8785) of flat objects. The keys of the structs here are declared in order and serde_json escapes
//! strings as RFC 8785, 3.2.2.2 asks, so that plain serialization is canonical; integers get the care they need.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest integer that every reader of JSON takes exactly (RFC 7493, 2.2).
const LARGEST: i64 = (1 << 53) - 1;

/// Whether a text is left out.
pub(crate) fn is_empty(text: &str) -> bool {
    text.is_empty()
}

/// Whether a number is left out.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The canonical bytes of a struct whose fields are declared in the order of their names.
pub(crate) fn bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    write(value, &mut bytes);
    bytes
}

/// Appends those bytes.
pub(crate) fn write(value: &impl Serialize, bytes: &mut Vec<u8>) {
    serde_json::to_writer(bytes, value).expect("strings and integers are serializable");
}

/// An integer as a number where that is exact for every reader, else as a text of its digits (RFC 8785, appendix D).
pub(crate) mod integer {
    use super::{Deserialize, Deserializer, LARGEST, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Text(String),
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    pub(crate) fn serialize<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        if (-LARGEST..=LARGEST).contains(number) {
            serializer.serialize_i64(*number)
        } else {
            serializer.collect_str(number)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(number),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}
