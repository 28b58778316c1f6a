//! A limit on calls, held over three processes of permissions on one database and one Redis.

use tests::{
    block_on,
    chaos::{Rush, quotas_are_exact},
};

#[test]
fn a_thousand_callers_over_three_processes_make_exactly_the_hundred_calls_there_are() {
    let rush = Rush { callers: 1_000, limit: 100, with_deaths: false };
    block_on(quotas_are_exact(rush)).assert_sound();
}

#[test]
fn so_they_do_while_redis_is_restarted_and_an_executor_dies() {
    let rush = Rush { callers: 1_000, limit: 100, with_deaths: true };
    block_on(quotas_are_exact(rush)).assert_sound();
}
