//! Whoever lost a queued call to another process changes nothing any more, and that is counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Counter, InstrumentBuilder, InstrumentProvider, Meter, MeterProvider, SyncInstrument},
};
use uuid::Uuid;

use super::{
    house::{House, PATIENCE, TEAM, posting},
    queue::{accepted, later},
    upstream::Held,
};
use crate::store::{self, Decided, PutBack};

/// Adds up what is counted under one name.
#[derive(Debug, Clone, Default)]
struct Sum(Arc<AtomicU64>);

impl SyncInstrument<u64> for Sum {
    fn measure(&self, measurement: u64, _: &[KeyValue]) {
        self.0.fetch_add(measurement, Ordering::SeqCst);
    }
}

impl InstrumentProvider for Sum {
    fn u64_counter(&self, builder: InstrumentBuilder<'_, Counter<u64>>) -> Counter<u64> {
        let other = || Arc::new(Self::default());
        let fenced = builder.name == "toolcrib.executor.fenced_writes";
        Counter::new(if fenced { Arc::new(self.clone()) } else { other() })
    }
}

impl MeterProvider for Sum {
    fn meter_with_scope(&self, _: InstrumentationScope) -> Meter {
        Meter::new(Arc::new(self.clone()))
    }
}

#[tokio::test]
async fn a_late_write_under_an_old_lease_touches_nothing_settles_nothing_and_is_counted() {
    let fenced = Sum::default();
    opentelemetry::global::set_meter_provider(fenced.clone());
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let queued = accepted(&house, later("tool", "{}")).await;
    held.reached().await;
    // As if another process had taken it over.
    let other = Uuid::new_v4();
    let pool = house.database.pool().unwrap();
    for statement in [
        "INSERT INTO executor.worker VALUES ($1, now() + interval '1 hour')",
        "UPDATE executor.execution SET owner = $1, lease_epoch = lease_epoch + 1",
    ] {
        sqlx::query(statement).bind(other).execute(pool).await.unwrap();
    }
    held.go();
    tokio::time::timeout(PATIENCE, house.begin_stop()).await.unwrap();
    assert!(fenced.0.load(Ordering::SeqCst) >= 1);
    let row = "SELECT status || ' ' || lease_epoch || ' ' || (result_json = '') FROM executor.execution";
    assert_eq!(house.texts(row).await, ["running 2 true"]);
    assert_eq!(house.number("SELECT count(*) FROM executor.job").await, 1);
    assert_eq!((house.fakes.settled().len(), house.fakes.trail().len()), (0, 0));
    let id: Uuid = queued.id.parse().unwrap();
    let put_back = async |epoch| store::job_put_back(pool, TEAM, id, epoch, (None, "")).await.unwrap();
    assert_eq!(put_back(1).await, PutBack::Overtaken);
    assert_eq!(store::job_decide(pool, TEAM, id, 1, (None, false)).await.unwrap(), Decided::Overtaken);
    assert_eq!(store::job_begin(pool, TEAM, id, 1).await.unwrap(), None);
    assert_eq!((put_back(2).await, house.statuses().await), (PutBack::Queued, vec!["queued".to_owned()]));
    assert_eq!(put_back(2).await, PutBack::Overtaken, "it waits already");
    // Whatever ends it while it waits ends the decision that it was given meanwhile.
    assert_eq!(store::job_decide(pool, TEAM, id, 1, (Some(other), true)).await.unwrap(), Decided::Overtaken);
    assert_eq!(house.texts("SELECT decision_id::text FROM executor.execution").await, [other.to_string()]);
}
