//! `echo`: the tool to try first, and the one that measures what a call costs beyond its tool. Must never do anything
//! but give its arguments back.

use crate::drivers::Job;

/// The arguments as they came.
pub(super) fn run(job: &Job<'_>) -> String {
    job.arguments.to_string()
}
