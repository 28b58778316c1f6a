//! Measures the rows: in rounds over all of them, so that what disturbs the machine disturbs every row alike.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::ProgressBar;

use crate::{
    caller::{self, What},
    everything::{self, Everything},
    load::{Loop, Measured},
    process::Process,
    stage::{EFFECTS, Ground, READS, Suite},
    table::{Kind, Place, Row, Step},
    usage::{Cpu, Parties},
};

/// The arguments of every call but those of MCP.
const ARGUMENTS: &str = r#"{"text": "the quick brown fox jumps over the lazy dog"}"#;
/// How long the events of one measurement may take to leave before the next one begins.
const DRAIN: Duration = Duration::from_secs(10);

/// Everything that calls can be made of.
pub struct Stage {
    pub ground: Ground,
    pub echo: Process,
    pub all: Suite,
    pub split: Option<Suite>,
    pub redis: Option<Suite>,
    pub everything: Option<Everything>,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub measured: Measured,
    /// For each call, in microseconds.
    pub cpu: Cpu,
    pub resident_mib: f64,
    /// Events a second that left the outbox, where they were held until the end.
    pub drained_per_second: Option<f64>,
}

/// What was measured of each row with so many callers.
pub type Samples = BTreeMap<(Row, usize), Vec<Sample>>;

/// Whether a row can be measured on this stage.
pub fn is_there(stage: &Stage, row: Row) -> bool {
    match (row.place, row.step) {
        (Place::Split, _) => stage.split.is_some(),
        (Place::Redis, _) => stage.redis.is_some(),
        (_, Step::Mcp) => stage.everything.is_some(),
        _ => true,
    }
}

/// Fills tables, caches and plans, and tells PostgreSQL what the tables hold: an installation is measured that has run
/// for a while, not one whose plans were made for empty tables.
pub async fn settle(stage: &mut Stage, run_ms: u64) {
    let suites = [Some(&mut stage.all), stage.split.as_mut(), stage.redis.as_mut()];
    for suite in suites.into_iter().flatten() {
        let calls =
            [(Kind::Reads, Step::Audit), (Kind::Effects, Step::Audit), (Kind::Effects, Step::RequestId)];
        for (kind, step) in calls {
            let row = Row { place: Place::AllInOne, kind, step };
            let plan = Loop { callers: 32, warm_ms: 0, run_ms };
            of_suite(&stage.ground, suite, row, plan).await;
        }
        let pool = suite.database.pool().expect("the database is up");
        sqlx::query("VACUUM (ANALYZE)").execute(pool).await.expect("PostgreSQL looks at its tables");
    }
}

/// Measures every cell once a round.
pub async fn rounds(
    stage: &mut Stage,
    cells: &[(Row, usize)],
    (rounds, plan): (usize, Loop),
    bar: &ProgressBar,
) -> Samples {
    let mut samples = Samples::new();
    for _ in 0..rounds {
        for (row, callers) in cells {
            bar.set_message(format!("{}, {callers} callers", row.name()));
            let sample = measure(stage, *row, Loop { callers: *callers, ..plan }).await;
            samples.entry((*row, *callers)).or_default().push(sample);
            bar.inc(1);
        }
    }
    samples
}

async fn measure(stage: &mut Stage, row: Row, plan: Loop) -> Sample {
    match row.place {
        Place::Tonic => of_tonic(stage, row, plan).await,
        Place::Mcp => of_mcp(stage, plan).await,
        Place::InProcess | Place::AllInOne => of_suite(&stage.ground, &mut stage.all, row, plan).await,
        Place::Split => of_suite(&stage.ground, stage.split.as_mut().expect("it is there"), row, plan).await,
        Place::Redis => of_suite(&stage.ground, stage.redis.as_mut().expect("it is there"), row, plan).await,
    }
}

async fn of_tonic(stage: &Stage, row: Row, plan: Loop) -> Sample {
    let (process, name) = match row.step {
        Step::Echo => (&stage.echo, "echo"),
        Step::EchoTwoCommits => (&stage.echo, "echo2"),
        _ => (&stage.all.processes[0], "driver"),
    };
    let what = what(row, "");
    let links = caller::connections(process.addresses[name], plan.callers);
    let watch = Watch::over(stage.ground.parties(std::slice::from_ref(process)));
    let measured = caller::measure(&links, &what, plan, || watch.begin(), || watch.end()).await;
    watch.sample(measured)
}

async fn of_mcp(stage: &Stage, plan: Loop) -> Sample {
    let server = stage.everything.as_ref().expect("it is there");
    let watch = Watch::over(Parties { ours: vec![server.pid()], postmaster: stage.ground.postmaster });
    let measured = server.call(plan, || watch.begin(), || watch.end()).await;
    watch.sample(measured)
}

async fn of_suite(ground: &Ground, suite: &mut Suite, row: Row, plan: Loop) -> Sample {
    let holds = row.step == Step::Outcome;
    if holds {
        suite.executor().relays(false);
    }
    let what = what(row, &suite.key);
    let watch = Watch::over(ground.parties(&suite.processes));
    let measured = if row.place == Place::InProcess {
        in_process(suite, row, &what, plan, &watch)
    } else {
        let links = caller::connections(suite.edge, plan.callers);
        caller::measure(&links, &what, plan, || watch.begin(), || watch.end()).await
    };
    let mut sample = watch.sample(measured);
    if row.step.writes_events() {
        let waiting = suite.waiting_events().await;
        let begun = Instant::now();
        suite.executor().relays(true);
        drain(suite).await;
        sample.drained_per_second = holds.then(|| waiting as f64 / begun.elapsed().as_secs_f64());
    }
    sample
}

/// The warm-up is a run of its own, so that what the process uses can be read around the counted time.
fn in_process(suite: &mut Suite, row: Row, what: &What, plan: Loop, watch: &Watch) -> Measured {
    let (process, driver) = (suite.executor(), row.step == Step::Driver);
    process.call(driver, what, Loop { run_ms: 1, ..plan });
    watch.begin();
    let measured = process.call(driver, what, Loop { warm_ms: 0, ..plan });
    watch.end();
    measured
}

/// Waits until no event is left, so that none is delivered at the cost of the next measurement.
async fn drain(suite: &Suite) {
    let begun = Instant::now();
    while suite.waiting_events().await > 0 && begun.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn what(row: Row, key: &str) -> What {
    let tool = match (row.step, row.kind) {
        (Step::Mcp, _) => everything::CATALOG_TOOL,
        (_, Kind::Effects) => EFFECTS,
        (_, Kind::Any | Kind::Reads) => READS,
    };
    let arguments = if row.step == Step::Mcp { everything::ARGUMENTS } else { ARGUMENTS };
    What {
        tool: tool.to_owned(),
        arguments_json: arguments.to_owned(),
        key: key.to_owned(),
        rung: if row.step == Step::Driver { None } else { row.step.rung() },
        with_request_id: row.step == Step::RequestId,
    }
}

/// Reads what is used around the counted time.
struct Watch {
    parties: Parties,
    readings: Mutex<(Cpu, Cpu)>,
}

impl Watch {
    fn over(parties: Parties) -> Self {
        Self { parties, readings: Mutex::default() }
    }

    fn begin(&self) {
        self.readings.lock().expect("no holder panics").0 = self.parties.cpu();
    }

    fn end(&self) {
        self.readings.lock().expect("no holder panics").1 = self.parties.cpu();
    }

    fn sample(&self, measured: Measured) -> Sample {
        let (begin, end) = *self.readings.lock().expect("no holder panics");
        let cpu = end.since(begin).for_each(measured.calls);
        Sample { measured, cpu, resident_mib: self.parties.resident_mib(), drained_per_second: None }
    }
}
