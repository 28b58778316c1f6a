//! Reports of the same trail, signed as they are: whether an export shows that each has the rows it must have.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use trail::{
    Header, leaf_hash,
    report::{Completeness, End, Summary, Verifier, end_of_jsonl},
};

use super::made::{ENDED, Made, RECORDS, id};

/// The rows of a framework that has every use, of the records from 0 to before 100.
fn rows(made: &Made) -> Vec<Value> {
    let row = |index: u64| {
        let leaf = &made.leaves[usize::try_from(index).unwrap()];
        let header = Header::parse(leaf).unwrap();
        json!({
            "leaf_index": index, "leaf_hash": leaf_hash(leaf).to_string(), "event_id": header.id,
            "result": header.result, "agent_id": header.agent_id,
        })
    };
    (0..100).filter(|index| !ENDED.contains(index)).map(row).collect()
}

/// Signs a report of these rows, whatever they are, and compares it with an export.
fn complete(made: &Made, framework: &str, rows: &[Value], export: &[String]) -> Result<(), String> {
    let mut file = "{\"format\":\"toolcrib-report/1\"}\n".to_owned();
    for row in rows {
        writeln!(file, "{row}").unwrap();
    }
    let manifest = made.manifest(0, 100, RECORDS, false);
    let summary = Summary {
        begin: 0,
        end: 100,
        size: RECORDS,
        digest: hex::encode(Sha256::digest(&file)),
        start_time: "2026-11-23T00:00:00Z".into(),
        end_time: "2026-11-24T00:00:00Z".into(),
        format: "jsonl".into(),
        framework: framework.into(),
        origin: manifest.origin,
        root: manifest.root,
        rows: rows.len() as u64,
        team_id: manifest.team_id,
        ..Summary::default()
    };
    let (checkpoint, proof) = (made.checkpoint(RECORDS), made.range(0, 100));
    let signed = (summary.sign(&made.key), made.key.verifier_key());
    file += &end_of_jsonl(&End::new(&checkpoint, (0, 100), &proof, summary.rows, (&signed.0, &signed.1)));
    let mut verifier = Verifier::new(vec![made.key.verifier()]);
    file.split_inclusive('\n').for_each(|line| verifier.read(line.as_bytes()));
    let checked = verifier.finish()?;
    let mut completeness = Completeness::new(&checked)?;
    let mut verifier = trail::export::Verifier::new(vec![made.key.verifier()], Vec::new());
    for line in export {
        verifier.read(line.as_bytes());
        completeness.read(line.as_bytes(), &verifier);
    }
    completeness.finish(&verifier.finish())
}

#[test]
fn a_row_that_is_missing_invented_or_says_something_else_is_found_even_beside_ended_records() {
    let made = Made::new();
    let (export, whole) = (made.export(0, RECORDS), rows(&made));
    let judge = |edit: &dyn Fn(&mut Vec<Value>)| {
        let mut rows = whole.clone();
        edit(&mut rows);
        complete(&made, "eu-ai-act", &rows, &export).err().unwrap_or_default()
    };
    assert_eq!(judge(&|_| {}), "");
    assert!(judge(&|rows| drop(rows.remove(50))).contains("no row of record"));
    assert!(judge(&|rows| rows.push(json!({"result": "success"}))).contains("name no record"));
    assert!(judge(&|rows| rows[50]["result"] = "failure".into()).contains("is not of the record"));
    assert!(judge(&|rows| rows[50]["event_id"] = id(7).into()).contains("is not of the record"));
    // A record of the range that the file says has ended, with its row left out.
    let mut hidden = export.clone();
    let line = hidden.iter().position(|line| line.contains(&id(70))).unwrap();
    hidden[line] = format!("{{\"ended\":\"{}\",\"index\":70}}\n", id(71));
    let short: Vec<Value> = whole.iter().filter(|row| row["leaf_index"] != 70).cloned().collect();
    assert!(complete(&made, "eu-ai-act", &short, &hidden).unwrap_err().contains("not whole"));
    // What the export does not show by itself shows nothing.
    let headers = made.export_headers(0, RECORDS);
    assert!(
        complete(&made, "eu-ai-act", &whole, &headers).unwrap_err().contains("does not show why 3 records")
    );
    let group = |records: u64| json!({"tool_name": "calculator", "classification": "", "records": records});
    complete(&made, "gdpr-processing", &[group(97)], &export).unwrap();
    assert!(complete(&made, "gdpr-processing", &[group(96)], &export).is_err());
    let odd = [group(97), json!({"tool_name": "another"})];
    assert!(complete(&made, "gdpr-processing", &odd, &export).unwrap_err().contains("name no record"));
}
