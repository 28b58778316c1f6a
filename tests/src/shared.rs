//! A suite that several tests share: started by the first, stopped after the last.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use tokio::sync::Mutex;

use crate::{Mode, Suite, block_on};

/// The suite of the scenarios of one file, one way. Where only some of them are run, it ends with the process.
#[derive(Debug)]
pub struct Shared {
    mode: Mode,
    left: AtomicUsize,
    suite: Mutex<Option<Arc<Suite>>>,
}

impl Shared {
    /// For this many scenarios.
    pub const fn new(mode: Mode, scenarios: usize) -> Self {
        Self { mode, left: AtomicUsize::new(scenarios), suite: Mutex::const_new(None) }
    }

    /// Runs one scenario; after the last one the suite is stopped, even where a scenario failed.
    pub fn run(&self, scenario: impl AsyncFnOnce(&Suite)) {
        block_on(async {
            let suite = self.suite().await;
            let ended = AssertUnwindSafe(scenario(&suite)).catch_unwind().await;
            drop(suite);
            if self.left.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(suite) = self.suite.lock().await.take()
            {
                Arc::into_inner(suite).expect("every scenario has ended").stop().await;
            }
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
    }

    async fn suite(&self) -> Arc<Suite> {
        let mut suite = self.suite.lock().await;
        if suite.is_none() {
            *suite = Some(Arc::new(Suite::start(self.mode).await));
        }
        Arc::clone(suite.as_ref().expect("just started"))
    }
}
