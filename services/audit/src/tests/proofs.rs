//! Proofs, against a real PostgreSQL, checked without the code that made them.

use trail::{verify_consistency, verify_inclusion};

use super::trees::{Keys, Process, append, leaves, meddle, root, settings};
use crate::{Error, prove};

#[tokio::test]
async fn every_event_is_proved_in_trees_of_every_size_and_no_other_is() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    append(&database, "team", 300).await;
    process.sequence().await;
    let leaves = leaves(&database, "team").await;
    for (index, size) in [(0, 1), (0, 300), (255, 256), (256, 257), (7, 129), (299, 300), (128, 0)] {
        let (record, hash) = &leaves[index];
        let proof = prove::inclusion(&database, "team", record.id, size).await.unwrap();
        let count = if size == 0 { 300 } else { usize::try_from(size).unwrap() };
        assert_eq!((proof.index, proof.size, proof.leaf_hash), (index as u64, count as u64, *hash));
        let right = root(&leaves[..count]);
        verify_inclusion(&trail::leaf_hash(&proof.leaf), proof.index, proof.size, &proof.hashes, &right)
            .unwrap();
        assert_eq!(proof.checkpoint.is_empty(), count != 300, "of the newest tree there is a checkpoint");
    }
    for (first, second) in [(1, 2), (1, 300), (255, 256), (256, 300), (300, 300), (129, 0)] {
        let proof = prove::consistency(&database, "team", first, second).await.unwrap();
        let count = |size: u64| root(&leaves[..usize::try_from(size).unwrap()]);
        let (old, new) = (count(proof.first_size), count(proof.second_size));
        assert_eq!((proof.first_root, proof.second_root), (old, new));
        verify_consistency(proof.first_size, proof.second_size, &old, &new, &proof.hashes).unwrap();
    }
    let newest = prove::checkpoint(&database, "team", 0).await.unwrap();
    assert_eq!((newest.size, newest.root), (300, root(&leaves)));
    assert_eq!(keys.signer().open(&newest.checkpoint).unwrap().root, newest.root);
    assert_eq!(prove::checkpoint(&database, "team", 300).await.unwrap().checkpoint, newest.checkpoint);
}

#[tokio::test]
async fn what_is_not_signed_not_there_or_not_in_the_tree_is_told_apart() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let none = prove::checkpoint(&database, "team", 0).await.unwrap_err();
    assert!(matches!(none, Error::NotFound { .. }), "{none:?}");
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    append(&database, "team", 3).await;
    let early = prove::checkpoint(&database, "team", 0).await.unwrap_err();
    assert!(matches!(early, Error::NotSignedYet(_)), "{early:?}");
    let first = leaves(&database, "team").await[0].0.id;
    let early = prove::inclusion(&database, "team", first, 0).await.unwrap_err();
    assert!(matches!(early, Error::NotSignedYet(_)), "{early:?}");
    process.sequence().await;
    append(&database, "team", 2).await;
    let last = leaves(&database, "team").await[4].0.id;
    for (event, size, is_early) in
        [(last, 0, true), (last, 5, true), (last, 3, false), (first, 6, false), (first, -1, false)]
    {
        let refused = prove::inclusion(&database, "team", event, size).await.unwrap_err();
        assert_eq!(matches!(refused, Error::NotSignedYet(_)), is_early, "{size}: {refused:?}");
        assert_eq!(
            matches!(&refused, Error::Invalid { field, .. } if field == "size"),
            !is_early,
            "{refused:?}"
        );
    }
    prove::inclusion(&database, "team", first, 0).await.unwrap();
    for (team, event) in [("team", types::new_id()), ("other", first)] {
        let refused = prove::inclusion(&database, team, event, 0).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound { .. }), "{refused:?}");
    }
    for (first, second, field) in
        [(0, 0, "first_size"), (3, 2, "first_size"), (9, 0, "first_size"), (1, 9, "second_size")]
    {
        let refused = prove::consistency(&database, "team", first, second).await.unwrap_err();
        assert!(matches!(&refused, Error::Invalid { field: told, .. } if told == field), "{refused:?}");
    }
    let early = prove::consistency(&database, "team", 1, 4).await.unwrap_err();
    assert!(matches!(early, Error::NotSignedYet(_)), "{early:?}");
    let between = prove::checkpoint(&database, "team", 2).await.unwrap_err();
    assert!(matches!(between, Error::NotFound { .. }), "{between:?}");
}

#[tokio::test]
async fn a_record_or_a_tile_that_was_changed_is_told_and_not_proved() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    append(&database, "team", 20).await;
    process.sequence().await;
    let leaves = leaves(&database, "team").await;
    meddle(&database, "UPDATE audit.record SET cost_micro_usd = 8 WHERE sequence = 5").await;
    let told = prove::inclusion(&database, "team", leaves[4].0.id, 0).await.unwrap_err();
    assert!(told.to_string().contains("position 5"), "{told}");
    prove::inclusion(&database, "team", leaves[5].0.id, 0).await.unwrap();
    meddle(&database, "UPDATE audit.tile SET hashes = set_byte(hashes, 3, 255 - get_byte(hashes, 3))").await;
    let told = prove::inclusion(&database, "team", leaves[5].0.id, 0).await.unwrap_err();
    assert!(matches!(told, Error::Broken(_)), "{told:?}");
    assert!(prove::consistency(&database, "team", 3, 0).await.is_err());
}
