//! Reads a document of a stranger, JSON or YAML, plain or compressed, within bounds: bytes, nesting and values are
//! counted while it is read, so that no bomb is unpacked whole. No I/O.

use std::{
    cell::{Cell, RefCell},
    fmt,
    io::Read as _,
};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Largest document when unpacked, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most values of a document, aliases of YAML counted as often as they stand: about 2.5 times what GitHub's has.
const MAX_VALUES: usize = 2_000_000;
/// What an object counts as: the memory that it takes even with one member.
const OBJECT_VALUES: usize = 8;
/// Deepest nesting; as deep as `serde_json` reads.
const MAX_DEPTH: usize = 120;
/// The first bytes of what is compressed (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A document as it was read, and in which order it has its paths and their methods.
#[derive(Debug)]
pub(super) struct Read {
    pub root: Value,
    pub order: Vec<(String, Vec<String>)>,
}

/// Reads a document; the error says what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<Read, String> {
    let unpacked;
    let bytes = if bytes.starts_with(&GZIP) {
        unpacked = unpack(bytes)?;
        &unpacked
    } else {
        bytes
    };
    if bytes.len() > MAX_BYTES {
        return Err(too_large());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    let reader = Reader::default();
    let at = At { reader: &reader, depth: 0, place: Place::Root };
    let root = if text.trim_start().starts_with('{') { json(text, at) } else { yaml(text, at) }?;
    Ok(Read { root, order: reader.order.into_inner() })
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    flate2::read::MultiGzDecoder::new(bytes)
        .take(most)
        .read_to_end(&mut unpacked)
        .map_err(|error| format!("begins as gzip and cannot be unpacked: {error}"))?;
    if unpacked.len() > MAX_BYTES { Err(too_large()) } else { Ok(unpacked) }
}

fn too_large() -> String {
    format!("has more than {MAX_BYTES} bytes; take a part of it")
}

fn json(text: &str, at: At) -> Result<Value, String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = at.deserialize(&mut deserializer).and_then(|root| deserializer.end().map(|()| root));
    root.map_err(|error| format!("is not JSON that can be read: {error}"))
}

fn yaml(text: &str, at: At) -> Result<Value, String> {
    let budget = serde_saphyr::budget! {
        max_events: MAX_VALUES * 3,
        max_nodes: MAX_VALUES,
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_documents: 1,
        max_recorded_anchor_events: MAX_VALUES,
        // Values are counted as often as they stand, which is a bound and not a guess.
        enforce_alias_anchor_ratio: false,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        // As JSON: the last one counts.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        // YAML 1.2, as OpenAPI asks for: `on` and `no` are texts.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        at.deserialize(deserializer)
    })
    .map_err(|error| format!("is neither JSON nor YAML that can be read: {error}"))
}

/// What is counted, and kept, while a document is read.
#[derive(Default)]
struct Reader {
    values: Cell<usize>,
    order: RefCell<Vec<(String, Vec<String>)>>,
}

/// Where a value stands, as far as its order counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Paths,
    Path,
    Elsewhere,
}

#[derive(Clone, Copy)]
struct At<'a> {
    reader: &'a Reader,
    depth: usize,
    place: Place,
}

impl At<'_> {
    fn below<E: serde::de::Error>(self, key: Option<&str>) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("it nests more than {MAX_DEPTH} levels deep")));
        }
        let place = match (self.place, key) {
            (Place::Root, Some("paths")) => Place::Paths,
            (Place::Paths, Some(path)) => {
                self.reader.order.borrow_mut().push((path.to_owned(), vec![]));
                Place::Path
            }
            (Place::Path, Some(method)) => {
                if let Some((_, methods)) = self.reader.order.borrow_mut().last_mut() {
                    methods.push(method.to_owned());
                }
                Place::Elsewhere
            }
            _ => Place::Elsewhere,
        };
        Ok(Self { depth: self.depth + 1, place, ..self })
    }

    fn count<E: serde::de::Error>(self, values: usize) -> Result<(), E> {
        let values = self.reader.values.get() + values;
        self.reader.values.set(values);
        if values > MAX_VALUES {
            return Err(E::custom(format!("it has more than {MAX_VALUES} values; take a part of it")));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        Number::from_i128(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        Number::from_u128(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below(None)?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        if self.depth >= MAX_DEPTH {
            return Err(A::Error::custom(format!("it nests more than {MAX_DEPTH} levels deep")));
        }
        self.count(OBJECT_VALUES - 1)?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(self.below(Some(&key))?)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use serde_json::json;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn wrong(bytes: &[u8]) -> String {
        read(bytes).unwrap_err()
    }

    fn read(bytes: &[u8]) -> Result<Read, String> {
        crate::openapi::with_stack(|| super::read(bytes))
    }

    #[test]
    fn json_and_yaml_are_the_same_plain_and_compressed() {
        let yaml = "paths:\n  /b:\n    post: {x: on}\n    get: {responses: {200: {description: '1'}}}\n  /a: {get: 01}\n";
        let json = r#"{"paths":{"/b":{"post":{"x":"on"},"get":{"responses":{"200":{"description":"1"}}}},"/a":{"get":"01"}}}"#;
        for bytes in [yaml.as_bytes().to_vec(), json.into(), gzip(yaml.as_bytes()), gzip(json.as_bytes())] {
            let read = read(&bytes).unwrap();
            assert_eq!(read.root, serde_json::from_str::<Value>(json).unwrap());
            let order = [("/b", vec!["post", "get"]), ("/a", vec!["get"])];
            let order: Vec<_> =
                order.map(|(p, m)| (p.to_owned(), m.into_iter().map(str::to_owned).collect())).into();
            assert_eq!(read.order, order);
        }
        let merged = read(b"base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n").unwrap();
        assert_eq!(merged.root["use"], json!({"x": 1, "y": 3}));
    }

    #[test]
    fn what_is_no_document_is_told() {
        assert!(wrong(b"").contains("empty"));
        assert!(wrong(b"{\"a\":").contains("line 1"));
        assert!(wrong(b"a: [1\nb: 2").contains("YAML"));
        assert!(wrong(&[0x1f, 0x8b, 1, 2]).contains("gzip"));
        assert!(wrong(&[0xff, 0xfe]).contains("UTF-8"));
        assert!(wrong(b"a: 1\n---\nb: 2\n").contains("YAML"));
    }

    #[test]
    fn a_bomb_of_gzip_is_refused_before_it_is_whole() {
        let bomb = gzip(&vec![b' '; MAX_BYTES + 1]);
        assert!(bomb.len() < 100_000);
        assert!(wrong(&bomb).contains("67108864"));
    }

    #[test]
    fn aliases_of_yaml_do_not_multiply_without_end() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..9 {
            let items = vec![format!("*a{}", n - 1); 10].join(", ");
            laughs = format!("{laughs}a{n}: &a{n} [{items}]\n");
        }
        let told = wrong(laughs.as_bytes());
        assert!(told.contains("YAML"), "{told}");
    }

    #[test]
    fn nesting_has_an_end_in_json_and_yaml() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(read(deep(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(read(format!("x: {}", deep(MAX_DEPTH - 2)).as_bytes()).is_ok());
        for n in [MAX_DEPTH, 100_000] {
            assert!(!wrong(deep(n).as_bytes()).is_empty());
            assert!(!wrong(format!("x: {}", deep(n)).as_bytes()).is_empty());
        }
        let mut block = String::new();
        for n in 0..200 {
            block = format!("{block}{}a:\n", " ".repeat(n));
        }
        assert!(!wrong(block.as_bytes()).is_empty());
    }

    #[test]
    fn values_are_counted() {
        let many = format!("{{\"a\":[{}1]}}", "1,".repeat(MAX_VALUES));
        assert!(wrong(many.as_bytes()).contains("2000000"));
        let objects = |count: usize| format!("{{\"a\":[{}1]}}", "{},".repeat(count));
        assert!(wrong(objects(MAX_VALUES / OBJECT_VALUES).as_bytes()).contains("2000000"));
        assert!(read(objects(MAX_VALUES / OBJECT_VALUES - 2).as_bytes()).is_ok());
    }
}
