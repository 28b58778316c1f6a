//! A process dies in the midst of queued calls: what may be done twice is, as often as it may, and nothing else.

use proto::{
    executor::v1::{ExecutionStatus, StartExecutionRequest, ToolErrorCode},
    registry::v1::ToolDefinition,
    types::v1::Effect,
};
use secrecy::SecretString;
use store::Database;
use tokio::runtime::{Builder, Runtime};

use super::{
    fakes::Fakes,
    house::{House, LEASE, Outage, posting, until},
    queue::{accepted, get, later},
    upstream::{Held, Upstream},
};

/// A process with a runtime of its own: when it dies, nothing of it goes on and nothing is told.
struct Doomed {
    house: House,
    runtime: Runtime,
}

impl Doomed {
    fn new(url: &SecretString, fakes: &Fakes) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let house = {
            let _inside = runtime.enter();
            House::on(&Database::new(url, 6).unwrap(), fakes.clone(), |_| {})
        };
        Self { house, runtime }
    }

    /// Accepts a call, and gives its id.
    async fn accept(&self, request: StartExecutionRequest) -> String {
        let (mut client, request) = (self.house.client.clone(), self.house.as_agent(request));
        let accepted = self.runtime.spawn(async move { client.start_execution(request).await });
        accepted.await.unwrap().unwrap().into_inner().execution.unwrap().id
    }

    fn die(self) {
        self.runtime.shutdown_background();
        // Its end would ask it to stop in good order.
        std::mem::forget(self.house);
    }
}

fn reading(name: &str, url: &str) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..posting(name, url) }
}

#[tokio::test]
async fn what_may_be_done_twice_is_run_again_and_nothing_else() {
    let url = testkit::database_url().await;
    let database = Database::new(&url, 8).unwrap();
    crate::schema().migrate(database.pool().unwrap()).await.unwrap();
    let (fakes, read, write) = (Fakes::default(), Held::new().await, Held::new().await);
    let fragile = Held::new().await;
    let tools = |house: &House| {
        house.add(reading("read", &read.upstream.url));
        house.add(reading("fragile", &fragile.upstream.url));
        house.add(posting("write", &write.upstream.url));
    };
    let doomed = Doomed::new(&url, &fakes);
    tools(&doomed.house);
    let reads = doomed.accept(later("read", "{}")).await;
    let writes = doomed.accept(later("write", "{}")).await;
    let once = StartExecutionRequest { max_deliveries: 1, ..later("fragile", "{}") };
    let fails = doomed.accept(once).await;
    for held in [&read, &write, &fragile] {
        held.reached().await;
    }
    doomed.die();

    let house = House::on(&database, fakes.clone(), |_| {});
    tools(&house);
    read.reached().await;
    assert_eq!(get(&house, &reads).await.deliveries, 2);
    (0..2).for_each(|_| read.go());
    until(async || get(&house, &reads).await.status() == ExecutionStatus::Succeeded).await;
    until(async || get(&house, &writes).await.status() == ExecutionStatus::UnknownOutcome).await;
    let dead = get(&house, &fails).await;
    assert_eq!(dead.status(), ExecutionStatus::DeadLetter);
    let error = dead.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::OwnerDied);
    assert!(error.message.contains("1 of at most 1 deliveries"), "{}", error.message);
    assert_eq!([&read, &write, &fragile].map(|held| held.upstream.hits()), [2, 1, 1]);
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
    // Each is settled once, as made: what is not known counts.
    until(async || fakes.settled().len() == 3).await;
    let mut settled = fakes.settled();
    assert_eq!(*fakes.charged.lock().unwrap(), [7, 7, 7], "what its tool costs");
    settled.sort();
    let mut expected: Vec<_> = [reads, writes, fails].into_iter().map(|id| (id, true)).collect();
    expected.sort();
    assert_eq!(settled, expected);
    until(async || fakes.trail().len() == 3).await;
}

#[tokio::test]
async fn what_waited_when_the_process_died_runs_in_another() {
    let url = testkit::database_url().await;
    let database = Database::new(&url, 8).unwrap();
    crate::schema().migrate(database.pool().unwrap()).await.unwrap();
    let (fakes, held) = (Fakes::default(), Held::new().await);
    let doomed = Doomed::new(&url, &fakes);
    doomed.house.add(posting("tool", &held.upstream.url));
    for n in 0..12 {
        doomed.accept(later("tool", &format!(r#"{{"n":{n}}}"#))).await;
    }
    // Half of its places have one each; the others wait.
    for _ in 0..5 {
        held.reached().await;
    }
    doomed.die();
    let house = House::on(&database, fakes.clone(), |_| {});
    house.add(posting("tool", &held.upstream.url));
    (0..12).for_each(|_| held.go());
    until(async || house.number("SELECT count(*) FROM executor.execution WHERE end_time IS NULL").await == 0)
        .await;
    let by_status = "SELECT status || ' ' || count(*) FROM executor.execution GROUP BY status ORDER BY 1";
    assert_eq!(house.texts(by_status).await, ["succeeded 7", "unknown_outcome 5"]);
    assert_eq!(held.upstream.hits(), 12, "each once");
    until(async || fakes.settled().len() == 12).await;
}

#[tokio::test]
async fn a_queued_call_outlives_an_outage_of_the_database_and_takes_effect_once() {
    let (mut outage, database) = Outage::new().await;
    let (house, held) = (House::on(&database, Fakes::default(), |_| {}), Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    for n in 0..7 {
        accepted(&house, later("tool", &format!(r#"{{"n":{n}}}"#))).await;
    }
    for _ in 0..5 {
        held.reached().await;
    }
    outage.begin().await;
    (0..7).for_each(|_| held.go());
    tokio::time::sleep(LEASE * 2).await;
    outage.end(&database).await;
    house.until_all("succeeded").await;
    assert_eq!(held.upstream.hits(), 7);
    until(async || house.fakes.settled().len() == 7 && house.fakes.trail().len() == 7).await;
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
}

#[tokio::test]
async fn a_side_effect_that_was_taken_and_had_not_begun_is_run_by_another_process() {
    let url = testkit::database_url().await;
    let database = Database::new(&url, 8).unwrap();
    crate::schema().migrate(database.pool().unwrap()).await.unwrap();
    let (fakes, upstream) = (Fakes::hesitant(), Upstream::well().await);
    let doomed = Doomed::new(&url, &fakes);
    doomed.house.add(posting("tool", &upstream.url));
    fakes.gate.add_permits(1);
    let id = doomed.accept(later("tool", "{}")).await;
    // Taken, and waiting for its permission.
    let taken = "SELECT count(*) FROM executor.execution WHERE status = 'running'";
    until(async || {
        let count: i64 = sqlx::query_scalar(taken).fetch_one(database.pool().unwrap()).await.unwrap();
        count == 1
    })
    .await;
    doomed.die();
    fakes.gate.close();
    let house = House::on(&database, fakes.clone(), |_| {});
    house.add(posting("tool", &upstream.url));
    until(async || get(&house, &id).await.status() == ExecutionStatus::Succeeded).await;
    assert_eq!((upstream.hits(), get(&house, &id).await.deliveries), (1, 2));
    until(async || fakes.settled() == [(id.clone(), true)]).await;
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 0);
}
