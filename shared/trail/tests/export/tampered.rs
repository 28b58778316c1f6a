//! Every way to tamper with a file.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use trail::{Header, TileId, export::Report, leaf_hash, note::SigningKey};

use super::made::{ENDED, ERASED, Made, RECORDS, RETENTION, id};

/// Index of the line of a record in a file of all of them.
fn line_of(index: u64) -> usize {
    // The first line, and one tile before each full 256.
    usize::try_from(1 + index + (index / 256 + 1).min(RECORDS / 256)).unwrap()
}

/// What was found first: its name, its record, its line.
fn first(report: &Report) -> (&'static str, Option<u64>, u64) {
    let fault = report.first().expect("something is wrong");
    (fault.kind.name(), fault.index, fault.line)
}

fn edited(line: &str, edit: impl FnOnce(&mut Header)) -> String {
    let leaf = line.split_once("{\"leaf\":").unwrap().1.split_once(",\"payload\"").unwrap().0;
    let mut header = Header::parse(leaf.as_bytes()).unwrap();
    edit(&mut header);
    line.replace(leaf, std::str::from_utf8(&header.leaf()).unwrap())
}

#[test]
fn an_edited_header_is_named() {
    let made = Made::new();
    for index in [0, 1, 255, 256, 777, 1_279, 1_280, RECORDS - 1] {
        let edits: [fn(&mut Header); 6] = [
            |header| header.result = "denied".into(),
            |header| header.cost_micro_usd += 1,
            |header| header.agent_id = "another".into(),
            |header| header.id = id(99_999),
            |header| header.index += 1,
            |header| header.payload_hmac = "00".repeat(32),
        ];
        for edit in edits {
            let mut file = made.export(0, RECORDS);
            let at = line_of(index);
            file[at] = edited(&file[at], edit);
            let report = made.verify(&file);
            assert_eq!(first(&report), ("ALTERED", Some(index), at as u64 + 1));
            assert_eq!((report.fault_count, report.proven), (1, RECORDS - 1 - ENDED.len() as u64));
        }
    }
}

#[test]
fn an_edited_payload_or_salt_is_named_and_the_header_stays_proven() {
    let made = Made::new();
    for (from, to) in [
        ("\\\"n\\\":777", "\\\"n\\\":778"),
        ("\"user\":\"ada\"", "\"user\":\"eve\""),
        ("\"salt\":\"", "\"salt\":\"A"),
    ] {
        let mut file = made.export(0, RECORDS);
        let at = line_of(777);
        let changed = file[at].replace(from, to);
        file[at] = if from.contains("salt") { changed.replacen("=\"}", "\"}", 1) } else { changed };
        assert_ne!(file[at], made.export(0, RECORDS)[at]);
        let report = made.verify(&file);
        assert_eq!(first(&report), ("PAYLOAD_ALTERED", Some(777), at as u64 + 1), "{to}");
        assert_eq!(report.proven, RECORDS - ENDED.len() as u64);
    }
    let mut file = made.export(0, RECORDS);
    let at = line_of(777);
    let cut = file[at].find(",\"payload\"").unwrap();
    file[at] = format!("{}}}\n", &file[at][..cut]);
    assert_eq!(first(&made.verify(&file)), ("PAYLOAD_UNEXPECTED", Some(777), at as u64 + 1));
    // The payload of one record, with its salt, under another.
    let mut file = made.export(0, RECORDS);
    let (other, at) = (file[line_of(778)].clone(), line_of(777));
    let rest = &other[other.find(",\"payload\"").unwrap()..];
    file[at] = format!("{}{rest}", &file[at][..file[at].find(",\"payload\"").unwrap()]);
    assert_eq!(first(&made.verify(&file)), ("PAYLOAD_ALTERED", Some(777), at as u64 + 1));
}

#[test]
fn a_payload_that_was_taken_out_as_if_erased_is_told_apart_from_an_erasure() {
    let made = Made::new();
    let whole = made.verify(&made.export(0, RECORDS));
    assert_eq!((whole.erased, whole.erased_unshown), (1, 0));
    let before = made.verify(&made.export(0, 1_000));
    assert_eq!((before.erased, before.erased_unshown), (1, 1), "its erasure is not in this range");
    let mut file = made.export(0, RECORDS);
    let at = line_of(ERASED + 1);
    let leaf = &file[at][..file[at].find(",\"payload\"").unwrap()];
    file[at] = format!("{leaf},\"payload\":\"erased\"}}\n");
    let report = made.verify(&file);
    assert_eq!((first(&report), report.erased), (("NOT_ERASED", Some(ERASED + 1), at as u64 + 1), 2));
    assert!(whole.is_shown() && !before.is_shown());
}

#[test]
fn a_deleted_record_is_named() {
    let made = Made::new();
    for index in [0, 1, 255, 256, 511, 777, 1_280, RECORDS - 1] {
        let mut file = made.export(0, RECORDS);
        file.remove(line_of(index));
        let report = made.verify(&file);
        let (kind, record, _) = first(&report);
        assert_eq!((kind, record), ("MISSING", Some(index)), "{:?}", report.faults);
        assert_eq!((report.fault_count, report.proven), (1, RECORDS - 1 - ENDED.len() as u64));
    }
    // Whole tiles with their records and hashes.
    let mut file = made.export(0, RECORDS);
    file.drain(line_of(256) - 1..line_of(768) - 1);
    let report = made.verify(&file);
    let missing = report.first().unwrap();
    assert_eq!((missing.index, missing.kind.name(), report.fault_count), (Some(256), "MISSING", 1));
    assert_eq!(report.ranges.last().unwrap(), &(768..RECORDS));
}

#[test]
fn an_inserted_record_is_told() {
    let made = Made::new();
    for index in [1, 256, 777, RECORDS - 1] {
        let mut file = made.export(0, RECORDS);
        let at = line_of(index);
        file.insert(at, edited(&file[at], |header| header.id = id(99_999)));
        let report = made.verify(&file);
        assert_eq!(first(&report), ("INSERTED", Some(index), at as u64 + 1));
        assert_eq!((report.fault_count, report.proven), (1, RECORDS - ENDED.len() as u64));
    }
    let mut file = made.export(0, RECORDS);
    let last = file.len() - 1;
    file.insert(last, edited(&file[last - 1], |header| header.index += 1));
    assert_eq!(first(&made.verify(&file)), ("BEYOND", None, last as u64 + 1));
    // One changed and one added beside it.
    let mut file = made.export(0, RECORDS);
    let at = line_of(777);
    file[at] = edited(&file[at], |header| header.result = "denied".into());
    file.insert(at, file[at].clone());
    let report = made.verify(&file);
    assert_eq!((first(&report), report.fault_count), (("ALTERED", Some(777), at as u64 + 1), 2));
}

#[test]
fn a_duplicated_or_reordered_record_is_named() {
    let made = Made::new();
    for index in [0, 255, 256, 777, RECORDS - 1] {
        let mut file = made.export(0, RECORDS);
        let at = line_of(index);
        file.insert(at, file[at].clone());
        let report = made.verify(&file);
        assert_eq!(first(&report), ("REPEATED", Some(index), at as u64 + 2));
        assert_eq!((report.fault_count, report.proven), (1, RECORDS - ENDED.len() as u64));
    }
    let mut file = made.export(0, RECORDS);
    let at = line_of(777);
    file.swap(at, at + 1);
    let report = made.verify(&file);
    assert_eq!(first(&report), ("MOVED", Some(777), at as u64 + 1));
    assert_eq!(
        report.first().unwrap().to_string(),
        format!(
            "line {}: record 777 (id {}) is missing here and stands at line {} instead",
            at + 1,
            id(777),
            at + 2
        )
    );
    // Over the border of two tiles, and far away.
    for (one, other) in [(255, 256), (100, 1_000), (700, 1_299)] {
        let mut file = made.export(0, RECORDS);
        file.swap(line_of(one), line_of(other));
        let report = made.verify(&file);
        assert_eq!(report.first().unwrap().index, Some(one), "{one} and {other}: {:?}", report.faults);
        assert!(report.proven >= RECORDS - 2 - ENDED.len() as u64);
    }
    // A block of records before another.
    let mut file = made.export(0, RECORDS);
    let block: Vec<_> = file.drain(line_of(800)..line_of(820)).collect();
    file.splice(line_of(780)..line_of(780), block);
    assert_eq!(made.verify(&file).first().unwrap().index, Some(780));
}

#[test]
fn a_truncated_file_is_told_wherever_it_was_cut() {
    let made = Made::new();
    let file = made.export(0, RECORDS);
    for lines in [2, 3, 100, 257, 258, 1_000, file.len() - 2, file.len() - 1] {
        let report = made.verify(&file[..lines]);
        let fault = report.faults.last().unwrap();
        assert_eq!(fault.kind.name(), "CUT");
        let read = report.proven + report.ended;
        assert_eq!(fault.index, (read < RECORDS).then_some(read), "{lines}: {:?}", report.faults);
    }
    // In the middle of a line.
    let mut cut = file[..=line_of(777)].to_vec();
    cut[line_of(777)].truncate(100);
    let report = made.verify(&cut);
    assert_eq!(first(&report), ("MALFORMED", Some(777), line_of(777) as u64 + 1));
    // With a last line put on, and with a manifest of another file put in.
    let mut shorter = file[..line_of(777)].to_vec();
    shorter.push("{\"end\":true,\"records\":777}\n".into());
    let report = made.verify(&shorter);
    assert_eq!(first(&report).0, "MISSING");
    assert_eq!(report.first().unwrap().index, Some(777));
    let mut full = file.clone();
    *full.last_mut().unwrap() = "{\"end\":true,\"records\":777}\n".into();
    assert_eq!(first(&made.verify(&full)).0, "COUNT");
    full = file.clone();
    full.push(file[line_of(1_299)].clone());
    assert_eq!(first(&made.verify(&full)).0, "BEHIND");
}

#[test]
fn changed_hashes_prove_nothing_and_cost_the_records_of_their_tile_only() {
    let made = Made::new();
    // Who edits a record and its hash, too, is found by the tile above.
    let mut file = made.export(0, RECORDS);
    let at = line_of(777);
    file[at] = edited(&file[at], |header| header.result = "denied".into());
    let leaf = file[at].split_once("{\"leaf\":").unwrap().1.split_once(",\"payload\"").unwrap().0.to_owned();
    let mut hashes = made.tile(TileId { level: 0, index: 3 });
    hashes[777 - 768] = leaf_hash(leaf.as_bytes());
    let encoded = BASE64.encode(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>());
    let tile = line_of(768) - 1;
    file[tile] = format!("{{\"hashes\":\"{encoded}\",\"index\":3,\"level\":0}}\n");
    let report = made.verify(&file);
    assert_eq!(first(&report), ("HASHES_ALTERED", Some(768), tile as u64 + 1));
    assert_eq!(report.ranges.last(), Some(&(1_024..RECORDS)));
    assert_eq!(report.proven, RECORDS - 256 - ENDED.len() as u64);

    let mut file = made.export(0, RECORDS);
    file.remove(tile);
    let report = made.verify(&file);
    assert_eq!(first(&report), ("HASHES_MISSING", Some(768), tile as u64 + 1));
    assert_eq!(report.proven, RECORDS - 256 - ENDED.len() as u64);
    let mut file = made.export(0, RECORDS);
    file.insert(tile, file[tile].clone());
    assert_eq!(first(&made.verify(&file)), ("HASHES_MISPLACED", None, tile as u64 + 2));
    let mut file = made.export(0, RECORDS);
    file.swap(tile, tile + 1);
    assert_eq!(made.verify(&file).first().unwrap().index, Some(768));
    let mut file = made.export(0, RECORDS);
    file.swap(tile, tile - 1);
    assert_eq!(made.verify(&file).first().unwrap().index, Some(767));
}

#[test]
fn a_file_signed_by_another_or_changed_in_its_first_line_proves_nothing() {
    let made = Made::new();
    let file = made.export(0, RECORDS);
    let other = SigningKey::generate("toolcrib").unwrap();
    let forged = made.export_of(&other, 0, RECORDS, RECORDS);
    assert_eq!(first(&made.verify(&forged)).0, "UNSIGNED");
    let replaced = |from: &str, to: &str| {
        let mut changed = file.clone();
        changed[0] = file[0].replacen(from, to, 1);
        assert_ne!(changed[0], file[0], "{from}");
        let report = made.verify(&changed);
        assert_eq!((report.proven, report.is_whole()), (0, false));
        first(&report).0
    };
    assert_eq!(replaced("\\n1300\\n", "\\n1299\\n"), "UNSIGNED");
    assert_eq!(replaced("\\\"end\\\":1300", "\\\"end\\\":1299"), "UNSIGNED");
    assert_eq!(replaced("toolcrib-trail/1", "toolcrib-trail/2"), "MALFORMED");
    assert_eq!(replaced(&made.key.verifier_key(), &other.verifier_key()), "UNSIGNED");
    assert_eq!(replaced("\"frontier\":[\"", "\"frontier\":[\"AAAA"), "EDGE");
    assert_eq!(replaced("{", "{ "), "MALFORMED");
    // The signed manifest of another file of the same tree, and of another tree.
    let mut mixed = file.clone();
    mixed[0] = made.export(0, 1_000)[0].clone();
    assert_eq!(first(&made.verify(&mixed)).0, "BEYOND");
    let manifest = made.manifest(0, 900, 900, false).sign(&made.key);
    let ours = made.manifest(0, RECORDS, RECORDS, false).sign(&made.key);
    let json = |text: &str| serde_json::to_string(text).unwrap();
    assert_eq!(replaced(&json(&ours), &json(&manifest)), "OTHER_TREE");
}

#[test]
fn a_record_that_is_said_to_have_ended_must_be_one_that_its_event_tells_of() {
    let made = Made::new();
    let whole = made.verify(&made.export(0, RECORDS));
    assert_eq!((whole.ended, whole.ended_unshown), (3, 0));
    let before = made.verify(&made.export(0, 100));
    assert_eq!((before.ended, before.ended_unshown, before.is_whole()), (3, 3, true));
    let headers = made.verify(&made.export_headers(0, RECORDS));
    assert_eq!((headers.ended, headers.ended_unshown, headers.is_whole()), (3, 3, true));
    for (index, event) in [(777, RETENTION), (777, 5), (RETENTION + 1, RETENTION), (777, 778)] {
        let mut file = made.export(0, RECORDS);
        file[line_of(index)] = format!("{{\"ended\":\"{}\",\"index\":{index}}}\n", id(event));
        let report = made.verify(&file);
        assert_eq!(first(&report).0, "NOT_ENDED", "{:?}", report.faults);
    }
}

#[test]
fn a_line_that_is_written_otherwise_or_cannot_be_read_is_told() {
    let made = Made::new();
    let at = line_of(777);
    let faults: [(&str, &str); 8] = [
        ("{\"leaf\":", "{ \"leaf\":"),
        ("{\"leaf\":", "{\"leef\":"),
        ("\"action\":", "\"action\": "),
        ("}\n", "},\n"),
        ("}\n", "}\r\n"),
        ("\"v\":1", "\"v\":2"),
        ("\"v\":1", "\"v\":1,\"v\":1"),
        ("{\"leaf\":", "{\"end\":true,\"leaf\":"),
    ];
    for (from, to) in faults {
        let mut file = made.export(0, RECORDS);
        file[at] = file[at].replacen(from, to, 1);
        let report = made.verify(&file);
        let (kind, index, line) = first(&report);
        assert!(["MALFORMED", "ALTERED"].contains(&kind), "{to}: {kind}");
        assert_eq!((index, line, report.fault_count), (Some(777), at as u64 + 1, 1), "{to}");
    }
    // Texts of the file's own length are not kept, and no number is too large for it.
    for junk in [
        "{\"ended\":\"x\",\"index\":777}\n".to_owned(),
        edited(&made.export(0, RECORDS)[at], |header| header.id = "x".repeat(1_000)),
        edited(&made.export(0, RECORDS)[at], |header| header.subject_id = "x".repeat(1_000)),
        format!("{{\"{}\":1}}\n", "x".repeat(1_000)),
    ] {
        let mut file = made.export(0, RECORDS);
        file[at] = junk;
        let report = made.verify(&file);
        assert_eq!((first(&report), report.fault_count), (("MALFORMED", Some(777), at as u64 + 1), 1));
        assert!(report.first().unwrap().to_string().len() < 400);
    }
    for (index, level) in [(u64::MAX, 7), (u64::MAX, 255), (0, 8), (u64::MAX, 0)] {
        let mut file = made.export(0, RECORDS);
        let hashes = BASE64.encode([0; 32 * 256]);
        file.insert(at, format!("{{\"hashes\":\"{hashes}\",\"index\":{index},\"level\":{level}}}\n"));
        assert_eq!(first(&made.verify(&file)), ("HASHES_MISPLACED", None, at as u64 + 1));
    }
    for junk in ["\n", "null\n", "[]\n", "{}\n", "\u{0}\n", "{\"end\":false,\"records\":1}\n"] {
        let mut file = made.export(0, RECORDS);
        file.insert(at, junk.into());
        let report = made.verify(&file);
        assert_eq!(first(&report), ("MALFORMED", None, at as u64 + 1), "{junk:?}");
        assert_eq!(report.proven, RECORDS - ENDED.len() as u64);
    }
}

/// Whatever byte is changed, it is found: nothing in a file is without proof, but for what the report itself says.
#[test]
fn no_changed_byte_goes_unseen() {
    let made = Made::new();
    let mut random = StdRng::seed_from_u64(6);
    let file = made.export(250, 265);
    for (number, line) in file.iter().enumerate() {
        let step = if line.len() > 4_000 { 499 } else { 23 };
        for at in (random.random_range(0..step)..line.len()).step_by(step) {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1 << random.random_range(0..7);
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            // Which signature of a checkpoint is not ours, is nobody's business: other keys may sign, too.
            let mut tampered = file.clone();
            tampered[number] = changed;
            assert!(!made.verify(&tampered).is_whole(), "line {number}, byte {at}: {}", tampered[number]);
        }
    }
}
