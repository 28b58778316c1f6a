//! Every integration scenario, all in one process and split over real sockets; and the real binary, where only a
//! process can show it. One test binary. Must never reach beyond this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod async_calls;
mod batches;
mod chaos;
mod failures;
mod job;
mod limits;
mod outages;
mod pages;
mod permissions;
mod programs;
mod protocol;
mod refusals;
mod requests;
mod servers;
mod settings;
mod stops;
mod tools;
mod traces;
mod up;
