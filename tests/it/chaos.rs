//! The scenarios that kill and freeze real processes, as small as they can be and still mean something; `make soak`
//! runs the same ones long.

use std::time::Duration;

use tests::{
    block_on,
    chaos::{self, Outages, Progress, Report, Size},
};

/// Nobody watches.
const UNWATCHED: Progress<'static> = &|_, _| {};

fn sound(scenario: impl Future<Output = Report>) {
    block_on(scenario).assert_sound();
}

#[test]
fn killed_executors_lose_nothing_and_do_nothing_twice() {
    let size = Size { calls: 600, callers: 24, pause: Duration::from_millis(500), durable: false };
    sound(chaos::executors_die(size, UNWATCHED));
}

#[test]
fn a_frozen_executor_writes_nothing_and_attempts_nothing_when_it_is_back() {
    sound(chaos::frozen_executor_is_fenced());
}

#[test]
fn killed_at_chosen_points_nothing_is_lost_doubled_or_unproven() {
    sound(chaos::killed_at_points(3, UNWATCHED));
}

#[test]
fn a_killed_database_keeps_what_was_acknowledged() {
    let outages = Outages { kills: 1, away: Duration::from_secs(1), between: Duration::from_secs(1) };
    sound(chaos::database_dies(outages, UNWATCHED));
}

#[test]
fn a_hundred_calls_of_one_request_id_have_one_effect_and_one_answer() {
    sound(chaos::one_request_id(1, UNWATCHED));
}

#[test]
fn limits_hold_while_redis_is_killed_emptied_and_frozen() {
    sound(chaos::rates_survive_redis(60, Duration::from_secs(2), UNWATCHED));
}

#[test]
fn limits_are_exact_over_a_redis_cluster() {
    sound(chaos::rates_of_a_cluster(60, Duration::from_secs(5), UNWATCHED));
}
