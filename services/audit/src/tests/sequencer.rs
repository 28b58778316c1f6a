//! Leaves, fences and halts, against a real PostgreSQL.

use std::{path::Path, time::Duration};

use ::store::Kept;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trail::verify_consistency;

use super::trees::{Keys, Process, append, count, leaves, meddle, root, sequencer, settings};
use crate::{
    checkpoints::Standing,
    prove,
    sequencer::{Sequencer, Turn},
    store::{self, tree_get},
    subjects::Subjects,
};

#[tokio::test]
async fn every_record_becomes_a_leaf_once_and_trees_of_many_teams_grow_side_by_side() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    let mut earlier = Vec::new();
    for (small, large) in [(1, 255), (2, 1), (70, 700)] {
        append(&database, "small", small).await;
        append(&database, "large", large).await;
        process.sequence().await;
        for team in ["small", "large"] {
            let leaves = leaves(&database, team).await;
            let tree = tree_get(database.pool().unwrap(), team).await.unwrap().unwrap();
            assert_eq!(usize::try_from(tree.size).unwrap(), leaves.len());
            let signed = keys.signer().open(&tree.checkpoint).unwrap();
            assert_eq!((signed.size, signed.root), (leaves.len() as u64, root(&leaves)));
            assert_eq!(signed.origin, format!("toolcrib/{team}"));
            earlier.push((team, signed));
        }
    }
    for (team, signed) in &earlier {
        let size = i64::try_from(signed.size).unwrap();
        let proof = prove::consistency(&database, team, size, 0).await.unwrap();
        let (first, second) = (proof.first_root, proof.second_root);
        assert_eq!(first, signed.root);
        verify_consistency(signed.size, proof.second_size, &first, &second, &proof.hashes).unwrap();
    }
    assert_eq!(count(&database, "SELECT sum(calls)::bigint FROM audit.usage_day").await, 73 + 956);
    assert_eq!(count(&database, "SELECT count(*) FROM audit.checkpoint").await, 2, "one a minute at most");
}

#[tokio::test]
async fn a_sequencer_that_wakes_up_after_another_took_over_writes_nothing() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let checkpoints = keys.checkpoints(settings());
    let mut frozen = Process::start(&database, &checkpoints).await;
    append(&database, "team", 10).await;
    let prepared = frozen.sequencer.prepare(&mut frozen.connection, frozen.epoch).await.unwrap();
    // Its place is lost while its connection stays, as behind a pooler.
    sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut frozen.connection).await.unwrap();
    let mut other = Process::start(&database, &keys.checkpoints(settings())).await;
    assert!(!frozen.sequencer.commit(&mut frozen.connection, frozen.epoch, prepared).await.unwrap());
    assert!(tree_get(database.pool().unwrap(), "team").await.unwrap().is_none(), "nothing was written");
    append(&database, "team", 5).await;
    let late = frozen.sequencer.prepare(&mut frozen.connection, frozen.epoch).await.unwrap();
    other.sequence().await;
    let signed = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert!(!frozen.sequencer.commit(&mut frozen.connection, frozen.epoch, late).await.unwrap());
    assert_eq!(frozen.sequencer.turn(&mut frozen.connection, frozen.epoch).await.unwrap(), Turn::Done);
    assert!(!store::sequencer_beat(&mut frozen.connection, frozen.epoch).await.unwrap());
    let after = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert_eq!((after.checkpoint, after.size), (signed.checkpoint, 15));
    assert_eq!(count(&database, "SELECT sum(calls)::bigint FROM audit.usage_day").await, 15);
    // The same with an epoch that is right and a tree that has grown meanwhile: that is its team's matter alone.
    append(&database, "team", 1).await;
    let stale = other.sequencer.prepare(&mut other.connection, other.epoch).await.unwrap();
    other.sequence().await;
    let signed = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert!(other.sequencer.commit(&mut other.connection, other.epoch, stale).await.unwrap());
    let after = tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert_eq!((after.checkpoint, after.size), (signed.checkpoint, 16));
    assert_eq!(count(&database, "SELECT sum(calls)::bigint FROM audit.usage_day").await, 16);
}

#[tokio::test]
async fn sums_end_at_the_largest_number_and_what_cannot_be_written_is_left_out_alone() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let checkpoints = keys.checkpoints(settings());
    let mut process = Process::start(&database, &checkpoints).await;
    for team in ["dear", "refused", "other"] {
        append(&database, team, 2).await;
    }
    meddle(
        &database,
        "UPDATE audit.record SET cost_micro_usd = 9223372036854775807, duration_us = 9223372036854775807
         WHERE team_id = 'dear';
         UPDATE audit.record SET task_id = 'u', tool_name = 'u', agent_id = 'u' WHERE team_id = 'dear' AND sequence = 2;
         ALTER TABLE audit.usage_day ADD CONSTRAINT refused CHECK (team_id <> 'refused')",
    )
    .await;
    process.sequence().await;
    append(&database, "dear", 3).await;
    process.sequence().await;
    let pool = database.pool().unwrap();
    let size = async |team: &str| tree_get(pool, team).await.unwrap().map(|tree| tree.size);
    assert_eq!((size("dear").await, size("refused").await, size("other").await), (Some(5), None, Some(2)));
    let reason = store::halt_get(pool, "refused").await.unwrap().unwrap();
    assert!(reason.contains("positions 1 to 2 cannot be put"), "{reason}");
    let period = crate::usage::period("2020-01-01", "2030-01-01").unwrap();
    let all = store::usage_list(pool, "dear", &period, store::Grouping::default(), None, 1).await.unwrap();
    assert_eq!((all[0].calls, all[0].cost_micro_usd, all[0].duration_us), (5, i64::MAX, i64::MAX));
    assert_eq!(store::task_cost_sum(pool, "dear", &period).await.unwrap(), i64::MAX);
    let by = store::CostKey::Agent;
    let costs = store::cost_list(pool, "dear", &period, by, None, 9).await.unwrap();
    assert_eq!((costs.len(), costs[0].rank), (2, -i64::MAX));
    let tasks = store::task_cost_list(pool, "dear", &period, false, None, 9).await.unwrap();
    assert_eq!((tasks.len(), tasks[0].cost_micro_usd), (2, i64::MAX));
    // It is gone on with once it can be.
    meddle(&database, "ALTER TABLE audit.usage_day DROP CONSTRAINT refused").await;
    checkpoints.begin_anew();
    process.sequence().await;
    assert_eq!(size("refused").await, Some(2));
    assert_eq!(count(&database, "SELECT sum(calls)::bigint FROM audit.usage_day").await, 9);
}

#[tokio::test]
async fn many_teams_that_cannot_be_signed_for_do_not_take_the_places_of_one_that_can() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let mut process = Process::start(&database, &keys.checkpoints(settings())).await;
    meddle(
        &database,
        "INSERT INTO audit.head (team_id, sequence) SELECT 'gone-' || n, 1 FROM generate_series(1, 600) AS n",
    )
    .await;
    append(&database, "sound", 3).await;
    let waiting = process.sequencer.prepare(&mut process.connection, process.epoch).await.unwrap();
    assert!(process.sequencer.commit(&mut process.connection, process.epoch, waiting).await.unwrap());
    assert_eq!(tree_get(database.pool().unwrap(), "sound").await.unwrap().unwrap().size, 3);
    assert_eq!(count(&database, "SELECT count(*) FROM audit.halt").await, 600);
}

#[tokio::test]
async fn a_sequencer_with_long_rests_keeps_its_place() {
    let database = testkit::database(&[crate::schema()]).await;
    let checkpoints = Keys::new().checkpoints(settings());
    let sequencer = Sequencer::new(
        database.clone(),
        checkpoints,
        Subjects::new(database.clone(), Path::new("")),
        (Duration::from_mins(1), 300),
    );
    let stop = CancellationToken::new();
    let (office, mut told) = watch::channel(false);
    let running = tokio::spawn(sequencer.run(office, stop.clone()));
    told.wait_for(|has_it| *has_it).await.unwrap();
    meddle(&database, "CREATE TABLE public.begun AS SELECT now() AS at").await;
    let alive = "SELECT count(*) FROM audit.sequencer, public.begun WHERE beat_time > at + interval '7 s'";
    let kept = tokio::time::timeout(Duration::from_secs(30), async {
        while count(&database, alive).await == 0 {
            assert!(!told.has_changed().unwrap(), "the place is lost");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    kept.await.unwrap();
    assert_eq!(count(&database, "SELECT epoch FROM audit.sequencer").await, 1);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_sequencer_that_says_nothing_loses_its_place_by_the_hand_of_the_server() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let mut frozen = Process::start(&database, &keys.checkpoints(settings())).await;
    let mut other = Kept::durable(&database).take().await.unwrap();
    let taken = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(epoch) = store::sequencer_take(&mut other).await.unwrap() {
                return epoch;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert_eq!(taken.await.unwrap(), frozen.epoch + 1);
    append(&database, "team", 1).await;
    assert!(frozen.sequencer.turn(&mut frozen.connection, frozen.epoch).await.is_err());
    assert!(tree_get(database.pool().unwrap(), "team").await.unwrap().is_none());
}

#[tokio::test]
async fn a_record_that_is_gone_before_it_is_signed_halts_its_team_alone_until_it_is_back() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    let checkpoints = keys.checkpoints(settings());
    let mut process = Process::start(&database, &checkpoints).await;
    append(&database, "team", 3).await;
    process.sequence().await;
    append(&database, "team", 3).await;
    append(&database, "other", 3).await;
    meddle(
        &database,
        "CREATE TABLE public.stolen AS SELECT * FROM audit.record WHERE team_id = 'team' AND sequence = 5;
         DELETE FROM audit.record WHERE team_id = 'team' AND sequence = 5",
    )
    .await;
    process.sequence().await;
    let size = async |team: &str| tree_get(database.pool().unwrap(), team).await.unwrap().unwrap().size;
    assert_eq!((size("team").await, size("other").await), (4, 3));
    process.sequence().await;
    let reason = store::halt_get(database.pool().unwrap(), "team").await.unwrap().unwrap();
    assert!(reason.contains("position 5 is gone"), "{reason}");
    assert!(matches!(checkpoints.standing("team"), Some(Standing::Broken(_))));
    meddle(&database, "INSERT INTO audit.record SELECT * FROM public.stolen").await;
    checkpoints.begin_anew();
    process.sequence().await;
    assert_eq!(size("team").await, 6);
    let halted = store::halt_get(database.pool().unwrap(), "team").await.unwrap();
    assert!(halted.is_none(), "{halted:?}");
}

#[tokio::test]
async fn nothing_is_signed_on_top_of_tiles_that_are_not_those_that_were_signed() {
    let database = testkit::database(&[crate::schema()]).await;
    let keys = Keys::new();
    for (number, harm) in [
        "UPDATE audit.tile SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40)) WHERE team_id = 'team'",
        "UPDATE audit.tile SET hashes = substr(hashes, 1, 32) WHERE team_id = 'team'",
        "DELETE FROM audit.tile WHERE team_id = 'team'",
    ]
    .into_iter()
    .enumerate()
    {
        meddle(&database, "TRUNCATE audit.head, audit.record, audit.tree, audit.tile, audit.checkpoint, audit.halt").await;
        let checkpoints = keys.checkpoints(settings());
        let mut process = Process::start(&database, &checkpoints).await;
        append(&database, "team", 3).await;
        process.sequence().await;
        append(&database, "team", 3).await;
        meddle(&database, harm).await;
        process.sequence().await;
        assert_eq!(tree_get(database.pool().unwrap(), "team").await.unwrap().unwrap().size, 3, "{number}");
        let reason = store::halt_get(database.pool().unwrap(), "team").await.unwrap().expect("it is halted");
        assert!(reason.contains("restore the database"), "{reason}");
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut process.connection).await.unwrap();
    }
    let _ = sequencer(&database, &keys.checkpoints(settings()));
}
