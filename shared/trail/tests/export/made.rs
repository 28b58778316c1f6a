//! A trail and its exports, made as the service makes them.

use chrono::{DateTime, Duration, Utc};
use trail::{
    Checkpoint, Hash, Header, Payload, RangeProof, TileId, Tiles, commitment,
    export::{
        Ended, EndedDigest, KnownCheckpoint, Manifest, PayloadLine, Plan, Report, Step, Verifier, end_line,
        ended_line, first_line, record_line, tile_line,
    },
    leaf_hash,
    note::{SigningKey, VerifierKey},
};

/// Leaves of the tree: five full tiles and a part of one.
pub const RECORDS: u64 = 1_300;
/// The record that tells of those whose retention ended.
pub const RETENTION: u64 = 1_200;
/// Records whose retention ended.
pub const ENDED: [u64; 3] = [20, 21, 23];
/// The record that tells of the erasure, and the one whose payload was erased.
pub const ERASURE: u64 = 1_210;
pub const ERASED: u64 = 640;
pub const SUBJECT: &str = "7d1f0d0a-5f4f-4d5e-8a55-6d1a6d8f0001";

pub struct Made {
    pub key: SigningKey,
    pub leaves: Vec<Vec<u8>>,
    payloads: Vec<Vec<u8>>,
    tiles: Tiles,
}

pub fn id(index: u64) -> String {
    format!("019a9e1c-8f3e-7cc0-8000-{index:012x}")
}

fn salt(index: u64) -> [u8; 32] {
    *leaf_hash(&index.to_be_bytes()).as_bytes()
}

impl Made {
    pub fn new() -> Self {
        Self::with_changed(u64::MAX)
    }

    /// A trail in which one record is another.
    pub fn with_changed(changed: u64) -> Self {
        let (mut leaves, mut payloads) = (Vec::new(), Vec::new());
        for index in 0..RECORDS {
            let payload = payload(index).bytes();
            leaves.push(header(index, &payload, index == changed).leaf());
            payloads.push(payload);
        }
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut tiles = Tiles::new();
        trail::append(&mut tiles, 0, &hashes).unwrap();
        Self { key: SigningKey::generate("toolcrib").unwrap(), leaves, payloads, tiles }
    }

    pub fn checkpoint(&self, size: u64) -> String {
        self.checkpoint_by(&self.key, size)
    }

    pub fn checkpoint_by(&self, key: &SigningKey, size: u64) -> String {
        let root = trail::root(&self.tiles, size).unwrap();
        Checkpoint { origin: "toolcrib/dev".into(), size, root }.sign(key)
    }

    pub fn export(&self, begin: u64, end: u64) -> Vec<String> {
        self.export_of(&self.key, begin, end, RECORDS)
    }

    pub fn export_headers(&self, begin: u64, end: u64) -> Vec<String> {
        self.lines(&self.key, &self.manifest(begin, end, RECORDS, true))
    }

    pub fn export_of(&self, key: &SigningKey, begin: u64, end: u64, size: u64) -> Vec<String> {
        self.lines(key, &self.manifest(begin, end, size, false))
    }

    pub fn manifest(&self, begin: u64, end: u64, size: u64, headers_only: bool) -> Manifest {
        Manifest {
            begin,
            end,
            size,
            headers_only,
            export_time: "2026-11-23T08:00:00Z".into(),
            start_time: String::new(),
            end_time: String::new(),
            origin: "toolcrib/dev".into(),
            root: trail::root(&self.tiles, size).unwrap().to_string(),
            team_id: "dev".into(),
        }
    }

    fn lines(&self, key: &SigningKey, manifest: &Manifest) -> Vec<String> {
        let size = manifest.size;
        let mut file = first_line(
            &self.checkpoint_by(key, size),
            &manifest.sign(key),
            &key.verifier_key(),
            size,
            &self.tiles,
        )
        .unwrap();
        for step in Plan::new(manifest.begin, manifest.end, size) {
            match step {
                Step::Tile(id) => tile_line(id, self.tiles.get(id).unwrap(), &mut file),
                Step::Records(range) => {
                    range.for_each(|index| self.record(index, manifest, &mut file));
                }
            }
        }
        end_line(manifest.end - manifest.begin, &mut file);
        String::from_utf8(file).unwrap().split_inclusive('\n').map(str::to_owned).collect()
    }

    fn record(&self, index: u64, manifest: &Manifest, file: &mut Vec<u8>) {
        let at = usize::try_from(index).unwrap();
        let kept = PayloadLine::Kept { bytes: &self.payloads[at], salt: &salt(index) };
        match index {
            _ if ENDED.contains(&index) && manifest.size > RETENTION => {
                ended_line(index, &id(RETENTION), file);
            }
            _ if manifest.headers_only => record_line(&self.leaves[at], PayloadLine::LeftOut, file),
            ERASED => record_line(&self.leaves[at], PayloadLine::Erased, file),
            _ => record_line(&self.leaves[at], kept, file),
        }
    }

    /// The proof of a range of the whole tree.
    pub fn range(&self, begin: u64, end: u64) -> RangeProof {
        trail::range(&self.tiles, begin, end, RECORDS).unwrap()
    }

    pub fn verify(&self, lines: &[String]) -> Report {
        verify(lines, vec![self.key.verifier()], Vec::new())
    }

    /// The tile that the leaves' hashes stand in, for whoever forges one.
    pub fn tile(&self, id: TileId) -> Vec<Hash> {
        self.tiles.get(id).unwrap().to_vec()
    }
}

pub fn verify(lines: &[String], keys: Vec<VerifierKey>, known: Vec<KnownCheckpoint>) -> Report {
    let mut verifier = Verifier::new(keys, known);
    for line in lines {
        if !verifier.read(line.as_bytes()) {
            break;
        }
    }
    verifier.finish()
}

fn payload(index: u64) -> Payload {
    let mut digest = EndedDigest::new();
    for index in ENDED {
        digest.push(index + 1);
    }
    let ended = Ended {
        classification: "internal".into(),
        month: "2025-10".into(),
        records: digest.records(),
        digest: digest.finish(),
    };
    let message = if index == RETENTION { ended.message() } else { String::new() };
    Payload {
        message,
        arguments_json: format!("{{\"n\":{index}}}"),
        user: "ada".into(),
        ..Payload::default()
    }
}

fn header(index: u64, payload: &[u8], changed: bool) -> Header {
    let action = match index {
        RETENTION => "retention_applied",
        ERASURE => "subject_erased",
        _ => "tool_invoked",
    };
    let begin: DateTime<Utc> = "2026-11-23T07:00:00Z".parse().unwrap();
    Header {
        team_id: "dev".into(),
        index: i64::try_from(index).unwrap(),
        id: id(index),
        event_time: begin + Duration::milliseconds(i64::try_from(index).unwrap()),
        action: action.into(),
        result: if changed { "failure" } else { "success" }.into(),
        agent_id: "agent".into(),
        tool_name: "calculator".into(),
        cost_micro_usd: 12,
        subject_id: if index == ERASED || index == ERASURE { SUBJECT.into() } else { String::new() },
        payload_hmac: hex::encode(commitment(&salt(index), payload)),
        ..Header::default()
    }
}
