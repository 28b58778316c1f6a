//! How fast an export of the trail is checked: records a second, on one core, out of a file, and the memory that takes.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    time::Instant,
};

use chrono::{DateTime, Duration, Utc};
use trail::{
    Checkpoint, Hash, Header, Payload, Tiles, commitment,
    export::{Manifest, PayloadLine, Plan, Step, Verifier, end_line, first_line, record_line, tile_line},
    leaf_hash,
    note::SigningKey,
};

/// Most seconds for a million records.
const AIM: f64 = 10.0;
/// Bytes read at once.
const AT_ONCE: usize = 1 << 20;

/// Writes an export of so many records and checks it.
pub fn measure(records: u64) -> String {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let path = folder.path().join("trail.jsonl");
    let key = SigningKey::generate("toolcrib").expect("the system has randomness");
    let file = File::create(&path).expect("the temporary folder can be written");
    write(records, &key, BufWriter::new(file));
    let bytes = path.metadata().map_or(0, |file| file.len());
    // What was the most so far begins anew (proc(5), clear_refs); where it cannot, the growth is told as too little.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory_kib();
    let begun = Instant::now();
    let mut verifier = Verifier::new(vec![key.verifier()], Vec::new());
    let mut file = BufReader::with_capacity(AT_ONCE, File::open(&path).expect("was just written"));
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) && verifier.read(&line) {
        line.clear();
    }
    let report = verifier.finish();
    let took = begun.elapsed().as_secs_f64();
    assert!(report.is_whole() && report.proven == records, "{:?}", report.first());
    let (rate, aim) = (records as f64 / took, AIM * records as f64 / 1e6);
    let held = if took <= aim { "held" } else { "missed" };
    format!(
        "\n## Verification of an export, one core\n\n{records} records, {:.0} MB: {took:.2} s, {rate:.0} records/s, \
         {:.0} MB/s; aim {aim:.1} s: {held}; memory grew by {} KiB\n",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / took,
        memory_kib().saturating_sub(before),
    )
}

/// Most memory that this process has had, in KiB; 0 where that is not told.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn write(records: u64, key: &SigningKey, mut file: impl Write) {
    let hashes: Vec<Hash> = (0..records).map(|index| leaf_hash(&record(index).0)).collect();
    let mut tiles = Tiles::new();
    let tree = trail::append(&mut tiles, 0, &hashes).expect("an empty tree needs no tile");
    drop(hashes);
    let checkpoint = Checkpoint { origin: "toolcrib/dev".into(), size: records, root: tree.root }.sign(key);
    let manifest = Manifest {
        begin: 0,
        end: records,
        size: records,
        headers_only: false,
        export_time: "2026-11-23T08:00:00Z".into(),
        start_time: String::new(),
        end_time: String::new(),
        origin: "toolcrib/dev".into(),
        root: tree.root.to_string(),
        team_id: "dev".into(),
    };
    let mut lines = first_line(&checkpoint, &manifest.sign(key), &key.verifier_key(), records, &tiles)
        .expect("the tiles are all there");
    for step in Plan::new(0, records, records) {
        match step {
            Step::Tile(id) => tile_line(id, tiles.get(id).unwrap_or_default(), &mut lines),
            Step::Records(range) => range.for_each(|index| {
                let (leaf, payload, salt) = record(index);
                record_line(&leaf, PayloadLine::Kept { bytes: &payload, salt: &salt }, &mut lines);
            }),
        }
        file.write_all(&lines).expect("the temporary folder has room");
        lines.clear();
    }
    end_line(records, &mut lines);
    file.write_all(&lines).and_then(|()| file.flush()).expect("the temporary folder has room");
}

/// A record as calls leave them: leaf, payload and salt.
fn record(index: u64) -> (Vec<u8>, Vec<u8>, [u8; 32]) {
    let salt = *leaf_hash(&index.to_be_bytes()).as_bytes();
    let payload = Payload {
        arguments_json: format!(r#"{{"path":"reports/{index}.csv","column":"amount","limit":1000}}"#),
        arguments_digest: hex::encode(salt),
        result_digest: hex::encode(salt),
        result_summary_json: format!(
            r#"{{"rows":{index},"truncated":false,"note":"the first rows are shown"}}"#
        ),
        user: format!("user-{}@example.com", index % 1_000),
        ..Payload::default()
    }
    .bytes();
    let begin: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let id = |kind: u64| format!("019a9e1c-8f3e-7cc0-8{kind:03x}-{index:012x}");
    let header = Header {
        team_id: "dev".into(),
        index: i64::try_from(index).unwrap_or(i64::MAX),
        id: id(1),
        event_time: begin + Duration::microseconds(i64::try_from(index).unwrap_or(0) * 997),
        action: "tool_invoked".into(),
        result: "success".into(),
        agent_id: format!("agent-{}", index % 50),
        tool_name: "file_operations".into(),
        tool_version: "1.4.2".into(),
        tool_digest: hex::encode(salt),
        execution_id: id(2),
        task_id: format!("task-{}", index / 20),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        duration_us: 1_500,
        cost_micro_usd: 12,
        classification: "internal".into(),
        decision_id: id(3),
        intent_time: Some(begin + Duration::microseconds(i64::try_from(index).unwrap_or(0) * 997)),
        subject_id: id(4),
        payload_hmac: hex::encode(commitment(&salt, &payload)),
        ..Header::default()
    };
    (header.leaf(), payload, salt)
}
