//! The lines of a file, written and read. What is read must be what would be written.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::FORMAT;
use crate::{Hash, MissingTile, SALT_BYTES, TileId, Tiles, canonical, tiles};

const ERASED: &str = "\"erased\"";

/// What a file says of a record's payload.
#[derive(Debug, Clone, Copy)]
pub enum PayloadLine<'a> {
    /// Nothing: the file has headers alone.
    LeftOut,
    /// It was erased.
    Erased,
    /// Its canonical bytes and their salt.
    Kept {
        /// [`crate::Payload::bytes`].
        bytes: &'a [u8],
        /// The key of the commitment.
        salt: &'a [u8; SALT_BYTES],
    },
}

/// The first line, of a tree of that size whose tiles of [`crate::for_append`] are given.
pub fn first_line(
    checkpoint: &str,
    manifest: &str,
    verifier_key: &str,
    size: u64,
    edge: &Tiles,
) -> Result<Vec<u8>, MissingTile> {
    let first = First {
        checkpoint: checkpoint.into(),
        format: FORMAT.into(),
        frontier: tiles::frontier(edge, size)?.iter().map(|hashes| encoded(hashes)).collect(),
        manifest: manifest.into(),
        verifier_key: verifier_key.into(),
    };
    Ok(first.line())
}

/// Appends the line of a full tile.
pub fn tile_line(id: TileId, hashes: &[Hash], lines: &mut Vec<u8>) {
    Line::Tile { id, hashes: encoded(hashes).into() }.write(lines);
}

/// Appends the line of a record. Leaf and payload must be canonical bytes.
pub fn record_line(leaf: &[u8], payload: PayloadLine<'_>, lines: &mut Vec<u8>) {
    let salt = |salt| BASE64.encode(salt);
    lines.extend_from_slice(b"{\"leaf\":");
    lines.extend_from_slice(leaf);
    match payload {
        PayloadLine::LeftOut => {}
        PayloadLine::Erased => write_payload(ERASED.as_bytes(), None, lines),
        PayloadLine::Kept { bytes, salt: key } => write_payload(bytes, Some(&salt(key)), lines),
    }
    lines.extend_from_slice(b"}\n");
}

/// Appends the line of a record whose retention has ended, as that event says.
pub fn ended_line(index: u64, event_id: &str, lines: &mut Vec<u8>) {
    Line::Ended { index, event_id: event_id.into() }.write(lines);
}

/// Appends the last line.
pub fn end_line(records: u64, lines: &mut Vec<u8>) {
    Line::End { records }.write(lines);
}

/// The first line, as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub checkpoint: String,
    pub format: String,
    /// Tiles at the right edge, from level 0 up.
    pub frontier: Vec<String>,
    pub manifest: String,
    pub verifier_key: String,
}

impl First {
    fn line(&self) -> Vec<u8> {
        let mut line = canonical::bytes(self);
        line.push(b'\n');
        line
    }

    /// Reads a first line; what is wrong otherwise.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let first: Self = serde_json::from_slice(line).map_err(|error| told(&error))?;
        if first.line() == line { Ok(first) } else { Err(NOT_CANONICAL.into()) }
    }
}

pub(super) const NOT_CANONICAL: &str = "it is not written in the canonical form of RFC 8785";

/// Any other line.
#[derive(Debug)]
pub(super) enum Line<'a> {
    Tile { id: TileId, hashes: Cow<'a, str> },
    Record { leaf: &'a str, payload: Option<&'a str>, salt: Option<Cow<'a, str>> },
    Ended { index: u64, event_id: Cow<'a, str> },
    End { records: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    leaf: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    salt: Option<Cow<'a, str>>,
    #[serde(borrow)]
    hashes: Option<Cow<'a, str>>,
    index: Option<u64>,
    level: Option<u8>,
    #[serde(borrow)]
    ended: Option<Cow<'a, str>>,
    end: Option<bool>,
    records: Option<u64>,
}

impl<'a> Line<'a> {
    /// Reads a line; `again` is room to write it again.
    pub fn read(line: &'a [u8], again: &mut Vec<u8>) -> Result<Self, String> {
        let fields: Fields<'a> = serde_json::from_slice(line).map_err(|error| told(&error))?;
        let read = Self::of(fields).ok_or("it is none of the lines of an export")?;
        again.clear();
        read.write(again);
        if again == line { Ok(read) } else { Err(NOT_CANONICAL.into()) }
    }

    fn of(fields: Fields<'a>) -> Option<Self> {
        // What is too much comes out when the line is written again.
        if let Some(leaf) = fields.leaf {
            return Some(Self::Record {
                leaf: leaf.get(),
                payload: fields.payload.map(RawValue::get),
                salt: fields.salt,
            });
        }
        if let Some(hashes) = fields.hashes {
            return Some(Self::Tile { id: TileId { level: fields.level?, index: fields.index? }, hashes });
        }
        if let Some(event_id) = fields.ended {
            return Some(Self::Ended { index: fields.index?, event_id });
        }
        fields.end.filter(|end| *end)?;
        Some(Self::End { records: fields.records? })
    }

    fn write(&self, lines: &mut Vec<u8>) {
        match self {
            Self::Record { leaf, payload, salt } => {
                lines.extend_from_slice(b"{\"leaf\":");
                lines.extend_from_slice(leaf.as_bytes());
                if let Some(payload) = payload {
                    write_payload(payload.as_bytes(), salt.as_deref(), lines);
                }
                lines.extend_from_slice(b"}\n");
            }
            Self::Tile { id, hashes } => {
                lines.extend_from_slice(b"{\"hashes\":");
                canonical::write(hashes, lines);
                let rest = format!(",\"index\":{},\"level\":{}}}\n", id.index, id.level);
                lines.extend_from_slice(rest.as_bytes());
            }
            Self::Ended { index, event_id } => {
                lines.extend_from_slice(b"{\"ended\":");
                canonical::write(event_id, lines);
                lines.extend_from_slice(format!(",\"index\":{index}}}\n").as_bytes());
            }
            Self::End { records } => {
                lines.extend_from_slice(format!("{{\"end\":true,\"records\":{records}}}\n").as_bytes());
            }
        }
    }
}

/// A record's payload as its line has it.
pub(super) enum ReadPayload<'a> {
    LeftOut,
    Erased,
    Kept { bytes: &'a [u8], salt: [u8; SALT_BYTES] },
}

/// What a record's line says of its payload; `None`: nothing that can be.
pub(super) fn payload<'a>(payload: Option<&'a str>, salt: Option<&str>) -> Option<ReadPayload<'a>> {
    match (payload, salt) {
        (None, None) => Some(ReadPayload::LeftOut),
        (Some(ERASED), None) => Some(ReadPayload::Erased),
        (Some(bytes), Some(salt)) => {
            let salt = BASE64.decode(salt).ok()?.try_into().ok()?;
            Some(ReadPayload::Kept { bytes: bytes.as_bytes(), salt })
        }
        _ => None,
    }
}

fn write_payload(payload: &[u8], salt: Option<&str>, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b",\"payload\":");
    lines.extend_from_slice(payload);
    if let Some(salt) = salt {
        lines.extend_from_slice(b",\"salt\":");
        canonical::write(&salt, lines);
    }
}

fn encoded(hashes: &[Hash]) -> String {
    BASE64.encode(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())
}

/// The hashes of a tile or an edge; `None`: not hashes.
pub(crate) fn decoded(text: &str) -> Option<Vec<Hash>> {
    let bytes = BASE64.decode(text).ok()?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// What is wrong with the JSON, without the line number that is always 1.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}
