//! Every integration scenario, all in one process and split over real sockets; and the real binary, where only a
//! process can show it. One test binary. Must never reach beyond this machine.
#![allow(clippy::print_stdout, reason = "what is measured is told, and never asserted")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod async_calls;
mod batches;
mod chaos;
mod credentials;
mod failures;
mod find;
mod grpc_tools;
mod imports;
mod job;
mod limits;
mod operations;
mod organisation;
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
mod trust;
mod up;
