//! Calls as a careful client makes them: each with a request id, asked again until it is acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    executor::v1::{Execution, StartExecutionRequest},
    types::v1::Effect,
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Request, Status};

use crate::{Client, HttpTool, request};

/// The tool that only reads, what one call of it costs, and its effect.
pub const LOOK: (&str, i64, Effect) = ("look", 3, Effect::ReadOnly);
/// The tool that changes the world.
pub const ACT: (&str, i64, Effect) = ("act", 5, Effect::SideEffect);
/// Within this time a call is answered or asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// After this time a call is given up, which no call may be.
const GIVE_UP: Duration = Duration::from_mins(3);
/// Pause before a refused call is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// One of the two tools, at this address.
pub fn tool((name, cost_micro_usd, effect): (&str, i64, Effect), url: String) -> HttpTool {
    let mut tool = HttpTool::new(name, url).posting();
    tool.definition.effect = effect.into();
    tool.definition.cost_micro_usd = cost_micro_usd;
    // As many as there can be: what is held back is not made.
    tool.definition.rate_limit_per_minute = 1_000_000;
    tool
}

/// An acknowledged call.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// The execution, as the answer had it.
    pub execution: Execution,
    /// When the answer came.
    pub at: Instant,
}

/// What came of all calls.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Those that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// Refusals by code and message; their calls were asked again.
    pub refusals: BTreeMap<String, usize>,
    /// Request ids that were never acknowledged.
    pub given_up: Vec<String>,
}

/// Callers at work.
#[derive(Debug)]
pub struct Load {
    doors: Vec<Client>,
    next: AtomicUsize,
    total: usize,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
}

impl Load {
    /// At most this many calls through these doors.
    pub fn new(doors: Vec<Client>, total: usize) -> Arc<Self> {
        Arc::new(Self {
            doors,
            next: AtomicUsize::new(0),
            total,
            stopped: AtomicBool::new(false),
            tally: Mutex::default(),
        })
    }

    /// Starts so many callers; each makes one call after the other.
    pub fn start(self: &Arc<Self>, callers: usize) -> JoinSet<()> {
        let mut set = JoinSet::new();
        for _ in 0..callers {
            let load = Arc::clone(self);
            set.spawn(async move { load.call_on().await });
        }
        set
    }

    /// Begins no more calls.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Calls that were acknowledged.
    pub fn done(&self) -> usize {
        self.tally.lock().unwrap().acknowledged.len()
    }

    /// What came of them so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    async fn call_on(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.total {
                return;
            }
            self.call(number).await;
        }
    }

    /// Four kinds in turn: each tool, at once and queued.
    async fn call(&self, number: usize) {
        let (tool, queued) = (if number.is_multiple_of(2) { LOOK.0 } else { ACT.0 }, number % 4 > 1);
        let id = format!("call-{number}");
        let began = Instant::now();
        let mut door = number;
        while began.elapsed() < GIVE_UP {
            door += 1;
            match ask(&self.doors[door % self.doors.len()], tool, &id, queued).await {
                Ok(execution) => {
                    let acknowledged = Acknowledged { execution, at: Instant::now() };
                    return self.tally.lock().unwrap().acknowledged.push(acknowledged);
                }
                Err(status) => {
                    let refusal = format!("{:?}: {}", status.code(), status.message());
                    *self.tally.lock().unwrap().refusals.entry(refusal).or_default() += 1;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.tally.lock().unwrap().given_up.push(id);
    }
}

async fn ask(client: &Client, tool: &str, id: &str, queued: bool) -> Result<Execution, Status> {
    let mut call = request(tool, json!({"key": id}));
    id.clone_into(&mut call.request_id);
    let answer = if queued {
        let start = StartExecutionRequest { call: Some(call), max_deliveries: 20, ..Default::default() };
        client.executor().start_execution(timed(start)).await?.into_inner().execution
    } else {
        client.executor().execute(timed(call)).await?.into_inner().execution
    };
    Ok(answer.expect("an answer has its execution"))
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ASK_AGAIN);
    request
}
