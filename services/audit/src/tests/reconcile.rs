//! The comparison of executions with the trail, against a real PostgreSQL, with an executor that is a fake.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use proto::audit::v1::Action;
use uuid::Uuid;

use super::{adopt::write_old, event, journal, peers::Fakes, trail};
use crate::{
    Error,
    adopt::adopt_some,
    append::Journal,
    reconcile::{Reconciler, reconcile, standing},
    store::{self, FindingRow},
};

const TEAM: &str = "team";
const GRACE: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_mins(1);

/// What is compared.
struct House {
    database: Database,
    journal: Journal,
    fakes: Fakes,
    reconciler: Reconciler,
}

impl House {
    async fn new() -> Self {
        let database = testkit::database(&[crate::schema()]).await;
        let (journal, fakes) = (journal(&database), Fakes::default());
        let reconciler = Reconciler::new(database.clone(), fakes.peers(), journal.clone(), (GRACE, INTERVAL));
        Self { database, journal, fakes, reconciler }
    }

    /// An event of an execution, that ends it or not.
    async fn tell(&self, execution: Uuid, action: &str) -> Uuid {
        let mut draft = event(TEAM, "a");
        draft.record.id = types::new_id();
        draft.record.action = action.into();
        draft.record.execution_id = Some(execution);
        let id = draft.record.id;
        self.journal.append(vec![draft]).await.unwrap();
        id
    }

    /// An execution that ended an hour ago, with its outcome in the trail.
    async fn sound(&self) -> Uuid {
        let id = old_id();
        self.fakes.intent(TEAM, id, Some(ago(3_599)), None);
        self.tell(id, "retry_attempted").await;
        self.tell(id, "tool_invoked").await;
        id
    }

    async fn open(&self) -> Vec<FindingRow> {
        store::findings_list(self.database.pool().unwrap(), TEAM, 100).await.unwrap().0
    }

    async fn kinds(&self) -> Vec<(String, Uuid)> {
        let mut kinds: Vec<_> =
            self.open().await.into_iter().map(|finding| (finding.kind, finding.execution_id)).collect();
        kinds.sort();
        kinds
    }

    /// How many events of the trail tell of findings.
    async fn told(&self) -> usize {
        let events = trail(&self.database, &self.journal, TEAM).await;
        events.iter().filter(|event| event.action() == Action::DiscrepancyFound).count()
    }
}

fn ago(seconds: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::seconds(seconds)
}

/// An id made an hour ago.
fn old_id() -> Uuid {
    let millis = u128::try_from(ago(3_600).timestamp_millis()).unwrap();
    Uuid::from_u128(millis << 80 | types::new_id().as_u128() & ((1 << 80) - 1))
}

#[tokio::test]
async fn what_agrees_is_silent_and_every_disagreement_is_found_once_and_told_once() {
    let house = House::new().await;
    for _ in 0..10 {
        house.sound().await;
    }
    house.reconciler.turn().await.unwrap();
    assert_eq!((house.kinds().await, house.told().await), (Vec::new(), 0));
    let watermark = store::watermark_get(house.database.pool().unwrap(), TEAM).await.unwrap().unwrap();
    assert_eq!((watermark.executions, watermark.sequence), (10, 20));
    // Behind the watermark, and before it.
    let house = House::new().await;
    house.sound().await;
    let missing = house.sound().await;
    sqlx::query("DELETE FROM audit.record WHERE execution_id = $1")
        .bind(missing)
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    let twice = house.sound().await;
    house.tell(twice, "error_occurred").await;
    let invented = old_id();
    house.tell(invented, "tool_invoked").await;
    let endless = old_id();
    house.fakes.intent(TEAM, endless, None, Some(ago(300)));
    let expected = [
        ("INTENT_MISSING".to_owned(), invented),
        ("NOT_ENDED".to_owned(), endless),
        ("OUTCOME_MISSING".to_owned(), missing),
        ("OUTCOME_TWICE".to_owned(), twice),
    ];
    for _ in 0..3 {
        house.reconciler.turn().await.unwrap();
        assert_eq!(house.kinds().await, expected);
        // A record was deleted: only the events that are left are shown.
        let told: i64 =
            sqlx::query_scalar("SELECT count(*) FROM audit.record WHERE action = 'discrepancy_found'")
                .fetch_one(house.database.pool().unwrap())
                .await
                .unwrap();
        assert_eq!(told, 4, "each once");
    }
    let now = standing(&house.database, TEAM, INTERVAL, Utc::now()).await.unwrap();
    assert_eq!((now.open, now.findings.len(), now.faults.len()), (4, 4, 1), "{:?}", now.faults);
}

#[tokio::test]
async fn what_is_young_or_goes_on_waits_and_does_not_hold_up_the_rest() {
    let house = House::new().await;
    let (running, queued, late) = (old_id(), old_id(), old_id());
    house.fakes.intent(TEAM, running, None, Some(ago(-60)));
    house.fakes.intent(TEAM, queued, None, None);
    // It ended a moment ago: its outcome is on its way.
    house.fakes.intent(TEAM, late, Some(ago(5)), None);
    house.sound().await;
    house.reconciler.turn().await.unwrap();
    assert_eq!(house.kinds().await, []);
    let pool = house.database.pool().unwrap();
    let watermark = store::watermark_get(pool, TEAM).await.unwrap().unwrap();
    assert!(watermark.until_time > ago(180) && watermark.executions == 4, "{watermark:?}");
    assert_eq!(store::unended_add(pool, TEAM, &[]).await.unwrap(), 3);
    // They end: one well, one without an outcome, and the third is where it was.
    house.fakes.intent(TEAM, running, Some(ago(130)), None);
    house.tell(running, "tool_invoked").await;
    house.fakes.intent(TEAM, late, Some(ago(130)), None);
    house.reconciler.turn().await.unwrap();
    assert_eq!(house.kinds().await, [("OUTCOME_MISSING".to_owned(), late)]);
    assert_eq!(store::unended_add(pool, TEAM, &[]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_finding_is_explained_by_what_comes_later() {
    let house = House::new().await;
    let (no_outcome, no_intent, endless) = (old_id(), old_id(), old_id());
    house.fakes.intent(TEAM, no_outcome, Some(ago(1_000)), None);
    house.tell(no_intent, "tool_invoked").await;
    house.fakes.intent(TEAM, endless, None, Some(ago(1_000)));
    house.reconciler.turn().await.unwrap();
    assert_eq!(house.kinds().await.len(), 3);
    house.tell(no_outcome, "tool_invoked").await;
    house.fakes.intent(TEAM, no_intent, Some(ago(1_000)), None);
    house.fakes.intent(TEAM, endless, Some(ago(900)), None);
    house.reconciler.turn().await.unwrap();
    // It ended, and now its outcome is what is missing.
    assert_eq!(house.kinds().await, [("OUTCOME_MISSING".to_owned(), endless)]);
    house.tell(endless, "tool_invoked").await;
    house.reconciler.turn().await.unwrap();
    assert_eq!(house.kinds().await, []);
    let now = standing(&house.database, TEAM, INTERVAL, Utc::now()).await.unwrap();
    assert!(now.faults.is_empty() && now.open == 0, "{:?}", now.faults);
}

#[tokio::test]
async fn an_executor_that_is_away_is_told_after_a_while_and_is_no_finding() {
    let house = House::new().await;
    let invented = old_id();
    house.tell(invented, "tool_invoked").await;
    *house.fakes.away.lock().unwrap() = true;
    house.reconciler.turn().await.unwrap_err();
    assert_eq!(house.kinds().await, []);
    let at = |seconds| Utc::now() + TimeDelta::seconds(seconds);
    let faults = async |now| standing(&house.database, TEAM, INTERVAL, now).await.unwrap().faults;
    assert!(faults(at(300)).await.is_empty(), "not yet");
    let late = faults(at(400)).await;
    assert!(late.len() == 1 && late[0].contains("executor"), "{late:?}");
    *house.fakes.away.lock().unwrap() = false;
    house.reconciler.turn().await.unwrap();
    assert_eq!(house.kinds().await, [("INTENT_MISSING".to_owned(), invented)]);
    let found = faults(at(0)).await;
    assert!(found.len() == 1 && found[0].contains("do not agree"), "{found:?}");
}

#[tokio::test]
async fn on_demand_the_same_is_found_from_a_time_on_and_no_watermark_moves() {
    let house = House::new().await;
    for _ in 0..4 {
        house.sound().await;
    }
    let invented = old_id();
    house.tell(invented, "tool_invoked").await;
    let done = reconcile(&house.reconciler, TEAM, None).await.unwrap();
    assert_eq!((done.executions, done.events, done.findings.len()), (4, 8, 1));
    assert_eq!(done.findings[0].execution_id, invented);
    assert!(store::watermark_get(house.database.pool().unwrap(), TEAM).await.unwrap().is_none());
    let later = reconcile(&house.reconciler, TEAM, Some(ago(600))).await.unwrap();
    assert_eq!((later.executions, later.findings.len()), (0, 0), "of an earlier time");
    // What another process compares at the moment is left to it.
    let mut lock = house.database.pool().unwrap().begin().await.unwrap();
    assert!(store::reconciliation_lock(&mut lock).await.unwrap());
    house.reconciler.turn().await.unwrap();
    assert!(store::watermark_get(house.database.pool().unwrap(), TEAM).await.unwrap().is_none());
}

#[tokio::test]
async fn what_an_older_version_wrote_is_looked_up_once_it_is_moved_and_nothing_behind_it_before() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap();
    house.sound().await;
    let mut old = event(TEAM, "old");
    let invented = old_id();
    old.record.execution_id = Some(invented);
    write_old(&house.database, &old, "").await;
    house.sound().await;
    let looked_up = async || store::watermark_get(pool, TEAM).await.unwrap().unwrap().sequence;
    house.reconciler.turn().await.unwrap();
    assert_eq!((looked_up().await, house.kinds().await), (2, Vec::new()));
    assert_eq!(reconcile(&house.reconciler, TEAM, None).await.unwrap().findings, []);
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(adopt_some(&mut connection, &house.journal.subjects).await.unwrap(), 1);
    house.reconciler.turn().await.unwrap();
    assert_eq!((looked_up().await, house.kinds().await), (5, vec![("INTENT_MISSING".to_owned(), invented)]));
}

#[tokio::test]
async fn a_team_that_cannot_be_compared_holds_up_neither_the_next_nor_what_is_told() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap();
    // The first in order.
    house.fakes.intent("a", old_id(), Some(ago(1_000)), None);
    sqlx::query("ALTER TABLE audit.reconciliation ADD CHECK (team_id <> 'a')").execute(pool).await.unwrap();
    let invented = old_id();
    house.tell(invented, "tool_invoked").await;
    let failed = house.reconciler.turn().await.unwrap_err();
    assert!(matches!(failed, Error::Store(::store::Error::Failed(_))), "{failed:?}");
    assert_eq!(house.kinds().await, [("INTENT_MISSING".to_owned(), invented)]);
    assert_eq!(house.told().await, 1);
    assert_ne!(store::watermark_get(pool, "").await.unwrap().unwrap().failure, "", "health says so");
}

#[tokio::test]
async fn a_team_whose_every_event_was_lost_is_found_as_well() {
    let house = House::new().await;
    let lost = old_id();
    house.fakes.intent("mute", lost, Some(ago(1_000)), None);
    house.reconciler.turn().await.unwrap();
    let (found, _) = store::findings_list(house.database.pool().unwrap(), "mute", 10).await.unwrap();
    assert_eq!((found.len(), found[0].kind.as_str(), found[0].execution_id), (1, "OUTCOME_MISSING", lost));
}
