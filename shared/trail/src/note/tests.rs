//! Notes and keys: those of others are read, and nothing that was changed is believed.

use super::*;

/// From the tests of golang.org/x/mod/sumdb/note (BSD-3-Clause): a key pair and a note of the checksum database's kind.
const PETER: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn notes_and_keys_of_the_reference_are_read_and_written_alike() {
    let key = SigningKey::parse(PETER).unwrap();
    assert_eq!(key.verifier_key(), PETER_PUBLIC);
    assert_eq!(key.private_key(), PETER);
    let public = VerifierKey::parse(PETER_PUBLIC).unwrap();
    let text = open(NOTE, std::slice::from_ref(&public)).unwrap();
    assert_eq!(sign(text, &key), NOTE);
}

#[test]
fn no_changed_byte_of_a_note_is_believed() {
    let key = SigningKey::generate("toolcrib").unwrap();
    let note = sign("toolcrib/dev\n3\nAAAA\n", &key);
    let keys = [key.verifier()];
    assert_eq!(open(&note, &keys).unwrap(), "toolcrib/dev\n3\nAAAA\n");
    for at in 0..note.len() {
        for flip in [1_u8, 0x20] {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= flip;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(open(&changed, &keys).is_err(), "{changed:?}");
            }
        }
    }
    for cut in 0..note.len() {
        if let Some(cut) = note.get(..cut) {
            assert!(open(cut, &keys).is_err());
        }
    }
}

#[test]
fn another_key_even_of_the_same_name_is_told_apart() {
    let (ours, theirs) =
        (SigningKey::generate("toolcrib").unwrap(), SigningKey::generate("toolcrib").unwrap());
    let note = sign("a\n", &theirs);
    let found = open(&note, &[ours.verifier()]).unwrap_err();
    assert_eq!(found, NoteError::OtherKey(vec![theirs.verifier().id()]));
    // The hash of our key over a signature of theirs.
    let mut forged = ours.hash().to_vec();
    forged.extend_from_slice(&theirs.sign(b"a\n"));
    let forged = format!("a\n\n{MARK}toolcrib {}\n", BASE64.encode(forged));
    assert_eq!(open(&forged, &[ours.verifier()]), Err(NoteError::Signature(ours.verifier().id())));
    // Signed by both: either key will do.
    let line = sign("a\n", &ours).lines().last().unwrap().to_owned();
    let both = format!("{note}{line}\n");
    for key in [ours.verifier(), theirs.verifier()] {
        assert_eq!(open(&both, &[key]), Ok("a\n"));
    }
}

#[test]
fn a_key_that_is_not_one_is_told_and_not_repeated() {
    let faults = [
        "",
        "toolcrib",
        &PETER.replace("c74f20a3", "c74f20a4"),
        &PETER.replace("PeterNeumann", "Peter Neumann"),
        &PETER.replace("+AYEK", "+AoEK"),
        PETER_PUBLIC,
    ];
    for fault in faults {
        let error = SigningKey::parse(fault).unwrap_err().to_string();
        assert!(!error.contains("KFALVFGyNhPJ"), "{error}");
    }
    assert!(VerifierKey::parse(PETER).is_err());
    assert!(VerifierKey::parse(&PETER_PUBLIC.replace("PeterNeumann", "Mallory")).is_err());
    assert!(!format!("{:?}", SigningKey::parse(PETER).unwrap()).contains("KFALVFGyNhPJ"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    assert!(matches!(SigningKey::from_file(&path), Err(KeyError::Unreadable(_))));
    std::fs::write(&path, format!("{PETER}\n")).unwrap();
    assert_eq!(SigningKey::from_file(&path).unwrap().verifier_key(), PETER_PUBLIC);
}
