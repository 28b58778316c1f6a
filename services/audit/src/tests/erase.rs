//! Erasures against a real PostgreSQL and a real sequencer, with an executor, permissions and a selector that are fakes.

use std::time::{Duration, Instant};

use ::rpc::ErrorReason;
use ::rpc::ServiceError;
use ::store::Database;
use proto::audit::v1::PayloadState;
use tokio_util::sync::CancellationToken;
use trail::{leaf_hash, note, verify_inclusion};
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    event, event_of, journal,
    peers::Fakes,
    records,
    subjects::holds,
    trail,
    trees::{Keys, Process, settings},
};
use crate::{
    Error,
    append::Journal,
    erase::{Asked, Eraser},
    payload::header,
    prove,
    store::{self, ErasureRow, HoldRow},
};

const TEAM: &str = "team";

/// An audit service that erases, and what it stands on.
struct House {
    database: Database,
    keys: Keys,
    journal: Journal,
    fakes: Fakes,
    process: Process,
}

impl House {
    async fn new() -> Self {
        let database = testkit::database(&[crate::schema()]).await;
        let keys = Keys::new();
        let process = Process::start(&database, &keys.checkpoints(settings())).await;
        let journal = journal(&database);
        Self { database, keys, journal, fakes: Fakes::default(), process }
    }

    /// A process that erases, until the token is dropped.
    fn eraser(&self) -> (Eraser, tokio_util::sync::DropGuard) {
        let (peers, signer) = (self.fakes.peers(), self.keys.signer());
        let eraser = Eraser::new(self.database.clone(), self.journal.clone(), peers, signer);
        let stop = CancellationToken::new();
        tokio::spawn(eraser.clone().keep(stop.clone()));
        (eraser, stop.drop_guard())
    }

    /// Sequences until an erasure is done.
    async fn done(&mut self, id: Uuid) -> ErasureRow {
        for _ in 0..200 {
            self.process.sequence().await;
            let mut connection = self.database.pool().unwrap().acquire().await.unwrap();
            let erasure = store::erasure_get(&mut connection, TEAM, id).await.unwrap().unwrap();
            if erasure.done_time.is_some() {
                return erasure;
            }
            drop(connection);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the erasure is not done");
    }

    /// Whether a text stands anywhere in the database, as text or within bytes.
    async fn is_anywhere(&self, needle: &str) -> bool {
        !holds(&self.database, needle).await.is_empty()
    }
}

fn admin() -> Caller {
    Caller {
        team: TEAM.into(),
        agent: "root".into(),
        role: Role::Admin,
        service: None,
        ..Caller::service("x")
    }
}

fn asked(user: &str, request_id: &str) -> Asked {
    Asked { user: user.into(), reason: "GDPR Art. 17".into(), request_id: request_id.into() }
}

/// Long enough for the answer not to be cut, short enough not to wait for a sequencer that a test turns itself.
fn soon() -> Instant {
    Instant::now() + Duration::from_millis(500)
}

#[tokio::test]
async fn an_erasure_leaves_old_proofs_and_nothing_of_its_subject() {
    let mut house = House::new().await;
    let mut drafts: Vec<_> = (0..3).map(|_| event_of(TEAM, "ada-lovelace")).collect();
    drafts[0].payload.arguments_json = r#"{"diagnosis":"canary-text"}"#.into();
    drafts.push(event_of(TEAM, "bob"));
    drafts.push(event(TEAM, "a"));
    house.journal.append(drafts).await.unwrap();
    house.process.sequence().await;
    let before = records(&house.database, TEAM).await;
    let old = prove::checkpoint(&house.database, TEAM, 0).await.unwrap();
    let (eraser, _stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("ada-lovelace", "r1"), soon()).await.unwrap();
    let done = house.done(begun.id).await;
    assert!(!house.is_anywhere("ada-lovelace").await && !house.is_anywhere("canary-text").await);
    let after = records(&house.database, TEAM).await;
    for (was, is) in before.iter().zip(&after) {
        let is_ada = was.subject_id.is_some() && was.subject_id == begun.subject_id;
        assert_eq!(is.payload.is_none(), is_ada);
        let (leaf, proof) =
            (header(is).leaf(), prove::inclusion(&house.database, TEAM, is.id, 5).await.unwrap());
        assert_eq!(leaf, header(was).leaf(), "no leaf changes");
        verify_inclusion(&leaf_hash(&leaf), proof.index, proof.size, &proof.hashes, &old.root).unwrap();
    }
    let shown = trail(&house.database, &house.journal, TEAM).await;
    assert_eq!(shown[0].payload_state(), PayloadState::Erased);
    assert_eq!((shown[3].user.as_str(), shown[3].payload_state()), ("bob", PayloadState::Kept));
    let told = shown.last().unwrap();
    assert_eq!(
        (told.action().as_str_name(), told.reason.as_str()),
        ("ACTION_SUBJECT_ERASED", "GDPR Art. 17")
    );
    assert_eq!(told.subject_id, begun.subject_id.unwrap().to_string());
    // The certificate names what went, and where its leaf stands.
    let signer = house.keys.signer();
    let verifier = trail::note::VerifierKey::parse(&signer.verifier_key()).unwrap();
    let text = note::open(&done.certificate, &[verifier]).unwrap();
    for line in [
        "erased in trail: 3",
        "erased in executions: 5",
        "erased in cache: 2",
        "erased in artifacts: 1",
        "erased in access_requests: 4",
        "erased in selections: 8",
        "leaf index: 5",
        &format!("subject: {}", begun.subject_id.unwrap()),
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert!(
        text.split(|c: char| !c.is_alphanumeric()).all(|word| word != "ada") && done.sealed_user.is_none()
    );
}

#[tokio::test]
async fn who_comes_back_gets_a_new_pseudonym_and_what_comes_late_comes_without_its_text() {
    let mut house = House::new().await;
    let mut old = event_of(TEAM, "ada");
    old.record.event_time = chrono::Utc::now();
    old.record.intent_time = Some(old.record.event_time);
    let mut late = event_of(TEAM, "ada");
    house.journal.append(vec![old]).await.unwrap();
    let (eraser, _stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("ada", ""), soon()).await.unwrap();
    house.done(begun.id).await;
    // It ends now, and its intent is older than the erasure.
    late.record.event_time = chrono::Utc::now();
    late.record.intent_time = Some(begun.request_time - chrono::TimeDelta::seconds(1));
    late.payload.message = "late-canary".into();
    let mut new = event_of(TEAM, "ada");
    new.record.event_time = chrono::Utc::now();
    new.record.intent_time = Some(new.record.event_time);
    house.journal.append(vec![late, new]).await.unwrap();
    let shown = trail(&house.database, &house.journal, TEAM).await;
    let [.., late, new] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!((late.payload_state(), late.message.as_str()), (PayloadState::Erased, ""));
    assert_eq!((new.payload_state(), new.user.as_str()), (PayloadState::Kept, "ada"));
    assert_ne!(new.subject_id, begun.subject_id.unwrap().to_string());
    // And may be erased again, by itself.
    let again = eraser.erase(&admin(), &asked("ada", ""), soon()).await.unwrap();
    assert_ne!(again.id, begun.id);
    assert_eq!(again.subject_id.unwrap().to_string(), new.subject_id);
    let done = house.done(again.id).await;
    assert!(done.certificate.contains("erased in trail: 1\n"), "{}", done.certificate);
}

#[tokio::test]
async fn the_same_request_or_the_same_user_is_one_erasure_and_another_body_is_refused() {
    let mut house = House::new().await;
    house.journal.append(vec![event_of(TEAM, "ada")]).await.unwrap();
    *house.fakes.busy.lock().unwrap() = true;
    let (eraser, _stop) = house.eraser();
    let first = eraser.erase(&admin(), &asked("ada", "r1"), soon()).await.unwrap();
    assert!(first.done_time.is_none(), "a call of theirs runs");
    for request_id in ["r1", "r2", ""] {
        let same = eraser.erase(&admin(), &asked("ada", request_id), soon()).await.unwrap();
        assert_eq!(same.id, first.id, "{request_id}");
    }
    let reason = Asked { reason: "another".into(), ..asked("ada", "r1") };
    for other in [asked("bob", "r1"), reason] {
        let refused = eraser.erase(&admin(), &other, soon()).await.map(|row| row.id).unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::RequestIdReused, "{refused:?}");
    }
    *house.fakes.busy.lock().unwrap() = false;
    let done = house.done(first.id).await;
    let later = eraser.erase(&admin(), &asked("ada", "r1"), soon()).await.unwrap();
    assert_eq!((later.id, later.certificate), (first.id, done.certificate), "also when it is done");
}

#[tokio::test]
async fn it_is_not_done_while_the_selector_may_still_write() {
    let mut house = House::new().await;
    house.journal.append(vec![event_of(TEAM, "ada")]).await.unwrap();
    *house.fakes.writing.lock().unwrap() = true;
    let (eraser, _stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("ada", ""), soon()).await.unwrap();
    assert!(begun.done_time.is_none());
    let state = |row: &ErasureRow, part: &str| {
        row.parts.iter().find(|other| other.part == part).map(|part| (part.records, part.done))
    };
    assert_eq!(state(&begun, "selections"), Some((8, false)), "{:?}", begun.parts);
    assert_eq!(state(&begun, "executions"), Some((5, true)), "{:?}", begun.parts);
    *house.fakes.writing.lock().unwrap() = false;
    let done = house.done(begun.id).await;
    assert_eq!(state(&done, "selections"), Some((8, true)));
}

#[tokio::test]
async fn it_goes_on_where_a_process_died_and_when_the_others_are_back() {
    let mut house = House::new().await;
    house.journal.append(vec![event_of(TEAM, "ada")]).await.unwrap();
    *house.fakes.away.lock().unwrap() = true;
    let (eraser, stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("ada", "r1"), soon()).await.unwrap();
    assert!(begun.done_time.is_none());
    // The trail's own part does not wait for the others.
    assert!(records(&house.database, TEAM).await[0].payload.is_none());
    drop((eraser, stop));
    *house.fakes.away.lock().unwrap() = false;
    let (_other, _stop) = house.eraser();
    let done = house.done(begun.id).await;
    assert!(done.parts.iter().all(|part| part.done && part.failure.is_empty()), "{:?}", done.parts);
    let told = house.fakes.erased.lock().unwrap();
    let expected = (TEAM.to_owned(), "ada".to_owned(), begun.id.to_string());
    assert!(!told.is_empty() && told.iter().all(|told| *told == expected), "{told:?}");
}

#[tokio::test]
async fn under_a_hold_nothing_is_erased_and_the_hold_is_named() {
    let house = House::new().await;
    house.journal.append(vec![event_of(TEAM, "ada"), event_of(TEAM, "bob")]).await.unwrap();
    let ada = house.journal.subjects.find(TEAM, "ada").await.unwrap();
    let mut connection = house.database.pool().unwrap().acquire().await.unwrap();
    let hold = HoldRow {
        id: types::new_id(),
        name: "matter-7".into(),
        reason: "litigation".into(),
        subject_id: ada,
        sealed_user: None,
        agent_id: String::new(),
        start_time: None,
        end_time: None,
        place_agent_id: "root".into(),
        place_time: chrono::Utc::now(),
        release_time: None,
    };
    store::hold_insert(&mut connection, TEAM, &hold).await.unwrap();
    drop(connection);
    let (eraser, _stop) = house.eraser();
    let refused = eraser.erase(&admin(), &asked("ada", "r1"), soon()).await.map(|row| row.id).unwrap_err();
    assert!(matches!(&refused, Error::OnHold { hold } if hold == "matter-7"), "{refused:?}");
    assert!(records(&house.database, TEAM).await.iter().all(|record| record.payload.is_some()));
    assert!(house.fakes.erased.lock().unwrap().is_empty());
    eraser.erase(&admin(), &asked("bob", "r2"), soon()).await.unwrap();
}

#[tokio::test]
async fn a_user_of_whom_nothing_is_known_gets_a_certificate_of_nothing() {
    let mut house = House::new().await;
    let (eraser, _stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("nobody", "r1"), soon()).await.unwrap();
    assert_eq!(begun.subject_id, None);
    let done = house.done(begun.id).await;
    assert!(
        done.certificate.contains("subject: none\n") && done.certificate.contains("erased in trail: 0\n")
    );
    assert!(!house.is_anywhere("nobody").await);
}

#[tokio::test]
async fn however_many_of_one_team_cannot_end_those_of_others_do() {
    let mut house = House::new().await;
    let stuck = sqlx::query(
        "INSERT INTO audit.erasure (team_id, id, sealed_user, reason, agent_id, request_id, request_time)
         SELECT 'stuck', gen_random_uuid(), '\\x00', 'asked', 'a', '', now() - interval '1 day'
         FROM generate_series(1, 150)",
    );
    stuck.execute(house.database.pool().unwrap()).await.unwrap();
    house.journal.append(vec![event_of(TEAM, "ada")]).await.unwrap();
    let (eraser, _stop) = house.eraser();
    let begun = eraser.erase(&admin(), &asked("ada", ""), soon()).await.unwrap();
    house.done(begun.id).await;
    let (tried, all): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE tries > 0), count(*) FROM audit.erasure WHERE team_id = 'stuck'",
    )
    .fetch_one(house.database.pool().unwrap())
    .await
    .unwrap();
    assert!(tried > 0 && all == 150, "{tried} of {all}");
}
