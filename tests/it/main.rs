//! Every integration scenario, all in one process and split over real sockets; and the real binary, where only a
//! process can show it. One test binary. Must never reach beyond this machine.
#![allow(clippy::print_stdout, reason = "what is measured is told, and never asserted")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approvals;
mod async_calls;
mod authzen;
mod batches;
mod certificates;
mod changes;
mod chaos;
mod checkpoints;
mod credentials;
mod erasure;
mod exports;
mod failures;
mod find;
mod grants;
mod grpc_tools;
mod identities;
mod imports;
mod job;
mod leaks;
mod limits;
mod object_store;
mod operations;
mod organisation;
mod outages;
mod pages;
mod permissions;
mod policies;
mod programs;
mod protocol;
mod quotas;
mod reconcile;
mod refusals;
mod reports;
mod requests;
mod retrieval;
mod secured;
mod selection;
mod selection_aid;
mod servers;
mod settings;
mod stops;
mod streams;
mod tools;
mod traces;
mod trail;
mod trust;
mod up;
mod webhooks;
