//! The house that integration scenarios run in: a whole toolcrib, all in one process or split over real sockets, with
//! clients that see it as any outside program does. Must never reach into a service past its contract, but for what the
//! database alone can tell.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod admin;
pub mod chaos;
mod client;
mod installation;
mod refusal;
pub mod retrieval;
mod runtime;
mod shared;
mod suite;
mod tool;
mod upstream;

pub use client::{Client, Service, request};
pub use installation::{Installation, Process, command};
pub use refusal::{Refusal, read, refused};
pub use runtime::{PATIENCE, block_on, eventually};
pub use shared::Shared;
pub use suite::{Mode, Suite};
pub use tool::{HttpTool, result};
pub use upstream::{Hit, Upstream};

/// Makes two tests of each scenario, an `async fn(&Suite)`: `all_in_one::NAME` and `split::NAME`. The scenarios of one
/// file share a suite each way, which is stopped, in time, after the last of them.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        const SCENARIOS: usize = [$(stringify!($name)),+].len();

        mod all_in_one {
            static SUITE: $crate::Shared = $crate::Shared::new($crate::Mode::AllInOne, super::SCENARIOS);
            $(#[test] fn $name() { SUITE.run(super::$name); })+
        }

        mod split {
            static SUITE: $crate::Shared = $crate::Shared::new($crate::Mode::Split, super::SCENARIOS);
            $(#[test] fn $name() { SUITE.run(super::$name); })+
        }
    };
}

/// Makes the same two tests of each scenario, an `async fn(Mode)`, which starts and stops suites of its own.
#[macro_export]
macro_rules! scenarios_alone {
    ($($name:ident),+ $(,)?) => {
        mod all_in_one {
            $(#[test] fn $name() { $crate::block_on(super::$name($crate::Mode::AllInOne)); })+
        }

        mod split {
            $(#[test] fn $name() { $crate::block_on(super::$name($crate::Mode::Split)); })+
        }
    };
}
