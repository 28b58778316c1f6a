//! What keeps one failing or slow tool from hurting its callers and its neighbours: retry delays, a retry
//! budget, a circuit breaker, a bulkhead, and a map that keeps one set of them for each tool. Must never do
//! any I/O, decide what counts as a failure, or read a clock that a test cannot set.
//!
//! - [`retry`]: how long to wait before a call is made again.
//! - [`budget`]: how many calls may be made again at all.
//! - [`breaker`]: whether a tool that kept failing is called. `failsafe` and `recloser` let any number of
//!   probes through when half open; `tower-resilience-circuitbreaker` bounds them, but admits only through
//!   its own tower service, keeps every call of the window, reads the system's clock and counts late results
//!   of an earlier state.
//! - [`bulkhead`]: how many calls of one tool run at once.
//! - [`shields`]: the last three for each key, made on first use.

pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod retry;
pub mod shields;
mod window;

pub use breaker::{Breaker, BreakerSettings, Open, Permit, State};
pub use budget::{BudgetSettings, RetryBudget};
pub use bulkhead::{Bulkhead, BulkheadSettings, Full, Guard};
pub use retry::{Delay, RetryPolicy};
pub use shields::{Shield, ShieldSettings, Shields};
