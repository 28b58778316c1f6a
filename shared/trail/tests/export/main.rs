//! Exports of a trail of the size that has tiles of two levels, whole and tampered with in every way: each is found, and
//! the first bad record is named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod made;
mod reports;
mod tampered;

use made::{Made, RECORDS};
use trail::export::{KnownCheckpoint, Verifier};

#[test]
fn a_whole_file_proves_every_record() {
    let made = Made::new();
    for (begin, end) in
        [(0, RECORDS), (0, 0), (5, 5), (300, 900), (256, 512), (511, 513), (RECORDS - 1, RECORDS)]
    {
        let report = made.verify(&made.export(begin, end));
        assert!(report.is_whole(), "{begin}..{end}: {:?}", report.faults);
        assert!(report.key_known);
        assert_eq!(report.proven + report.ended, end - begin);
        assert_eq!(report.ranges.iter().map(|range| range.end - range.start).sum::<u64>(), report.proven);
        let unproven = report.erased + report.ended;
        assert_eq!(report.payloads, end - begin - unproven);
    }
}

#[test]
fn without_a_key_the_file_is_read_by_its_own_and_that_is_said() {
    let made = Made::new();
    let file = made.export(0, 600);
    let report = made::verify(&file, Vec::new(), Vec::new());
    assert!(report.is_whole() && !report.key_known);
    assert_eq!(report.signed_by, made.key.verifier().id());
    let other = trail::note::SigningKey::generate("toolcrib").unwrap();
    let report = made::verify(&file, vec![other.verifier()], Vec::new());
    assert!(!report.is_whole());
    assert_eq!(report.proven, 0);
}

#[test]
fn headers_alone_prove_the_same() {
    let made = Made::new();
    let report = made.verify(&made.export_headers(100, 700));
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.proven, report.payloads), (600, 0));
}

#[test]
fn earlier_checkpoints_are_compared_wherever_the_file_has_the_hashes() {
    let made = Made::new();
    let known = |size: u64| KnownCheckpoint { name: size.to_string(), note: made.checkpoint(size) };
    let sizes = [1, 2, 255, 256, 257, 700, 1_024, RECORDS - 1, RECORDS];
    let report = made::verify(&made.export(0, RECORDS), vec![made.key.verifier()], sizes.map(known).to_vec());
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!((report.checkpoints.len(), report.unchecked.len()), (sizes.len(), 0));
    let report = made::verify(
        &made.export(600, 800),
        vec![made.key.verifier()],
        vec![known(100), known(700), known(1_100), known(RECORDS)],
    );
    assert!(report.is_whole());
    assert_eq!(report.checkpoints, ["1300", "700"]);
    assert_eq!(report.unchecked, ["100", "1100"]);
}

#[test]
fn a_tree_that_was_rolled_back_or_rewritten_does_not_hold_a_known_checkpoint() {
    let (made, forged) = (Made::new(), Made::with_changed(417));
    let keys = vec![made.key.verifier()];
    let compared = |of: &Made, size: u64, with: &Made, at: u64| {
        // The same key signs both: that is what a forger with the database and the key can do.
        let note = with.checkpoint_by(&made.key, at);
        let known = KnownCheckpoint { name: "kept".into(), note };
        made::verify(&of.export_of(&made.key, 0, size, size), keys.clone(), vec![known])
    };
    assert!(compared(&forged, 900, &forged, 600).is_whole());
    assert!(compared(&forged, 900, &made, 417).is_whole(), "what both have in common is the same");
    for at in [418, 600, 900] {
        let report = compared(&forged, 900, &made, at);
        assert_eq!(report.first().unwrap().kind.name(), "FORKED");
    }
    let report = compared(&made, 900, &made, 901);
    assert_eq!(report.first().unwrap().kind.name(), "ROLLED_BACK");
    let stranger = KnownCheckpoint { name: "kept".into(), note: forged.checkpoint(100) };
    let report = made::verify(&made.export(0, 300), keys, vec![stranger]);
    assert_eq!(report.first().unwrap().kind.name(), "BAD_CHECKPOINT");
}

#[test]
fn an_empty_file_is_told() {
    let report = Verifier::new(Vec::new(), Vec::new()).finish();
    assert_eq!(report.first().unwrap().kind.name(), "CUT");
}
