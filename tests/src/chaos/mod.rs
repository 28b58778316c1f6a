//! Scenarios that kill, freeze and cut off real processes: short in `tests/it`, long in `tests/soak`. A scenario says
//! which rules were broken; it must never pass over one because of its size.

mod crew;
mod database;
mod fencing;
mod kills;
mod load;
mod one_request;
mod points;
mod process;
mod quotas;
mod rates;
mod records;
mod report;
mod turns;

pub(crate) use crew::free_addresses;
pub use crew::{Crew, Plan};
pub use database::{Outages, database_dies};
pub use fencing::frozen_executor_is_fenced;
pub use kills::{Size, executors_die};
pub use one_request::one_request_id;
pub use points::killed_at_points;
pub use process::Serving;
pub use quotas::{Rush, quotas_are_exact};
pub use rates::{rates_of_a_cluster, rates_survive_redis};
pub use report::{Progress, Report};
