//! The one runtime of the test process: suites are shared by tests, so none may live on a test's own runtime.

use std::{sync::LazyLock, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

/// How long anything that must come about by itself may take, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(30);

struct Process {
    runtime: Runtime,
    _telemetry: telemetry::Guard,
}

/// Traces have to be on, for trace ids are part of what is recorded; nothing is exported.
static PROCESS: LazyLock<Process> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let settings = node::config::Settings::load(None).unwrap();
    let config = telemetry::Config { log: "warn".to_owned(), ..settings.telemetry };
    let telemetry = telemetry::start(&config, "all").unwrap();
    drop(entered);
    Process { runtime, _telemetry: telemetry }
});

/// Runs a scenario to its end.
pub fn block_on<F: Future>(scenario: F) -> F::Output {
    PROCESS.runtime.block_on(scenario)
}

/// Asks again and again for what must come about by itself, and gives it.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "did not come about within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
