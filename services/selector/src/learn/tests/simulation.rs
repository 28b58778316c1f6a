//! Two tools that do the same: which of them comes first as they turn worse and better again.

use super::{Category, Ran, Random, Team};

/// What the fit of the first tool is better by in the combined score: a twentieth of a point of the match, so that at
/// equal history it comes first.
const AHEAD: f64 = 0.02;
/// Share of the suitability in the combined score.
const SUITABILITY: f64 = 0.4;

fn call(tool: &'static str, succeeded: bool, duration_ms: f64) -> Ran {
    Ran { agent: "a", tool, category: Category::Custom, succeeded, duration_ms }
}

fn first_leads(team: &Team) -> bool {
    let [first, second] = team.suitability("a", &["first", "second"])[..] else { unreachable!() };
    AHEAD + SUITABILITY * first >= SUITABILITY * second
}

/// A team that has called both tools a hundred times, with this rate of success.
fn settled(random: &mut Random, rate: f64) -> Team {
    let mut team = Team::default();
    for _ in 0..100 {
        team.record(&[call("first", random.next() < rate, 50.0), call("second", random.next() < rate, 50.0)]);
    }
    team
}

/// Calls of the first tool until it leads, or no longer does; at most 100.
fn calls_until(team: &mut Team, leads: bool, mut next: impl FnMut() -> Ran) -> usize {
    (0..100)
        .find(|_| {
            let done = first_leads(team) == leads;
            if !done {
                team.record(&[next()]);
            }
            done
        })
        .unwrap_or(100)
}

fn median_and_95th(mut numbers: Vec<usize>) -> (usize, usize) {
    numbers.sort_unstable();
    (numbers[numbers.len() / 2], numbers[numbers.len() * 95 / 100])
}

#[test]
fn the_ranking_turns_within_twenty_outcomes_of_a_degradation_and_returns_within_twenty_of_the_recovery() {
    let (mut turned, mut returned) = (Vec::new(), Vec::new());
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut team = settled(&mut random, 0.95);
        turned.push(calls_until(&mut team, false, || call("first", random.next() < 0.2, 50.0)));
        for _ in 0..40 {
            team.record(&[call("first", random.next() < 0.2, 50.0)]);
        }
        assert!(!first_leads(&team));
        returned.push(calls_until(&mut team, true, || call("first", random.next() < 0.95, 50.0)));
    }
    let ((turn, slow_turn), (back, slow_back)) = (median_and_95th(turned), median_and_95th(returned));
    assert!(turn <= 8 && slow_turn <= 20, "turned after {turn}, 95 % after {slow_turn}");
    assert!(back <= 12 && slow_back <= 20, "returned after {back}, 95 % after {slow_back}");
}

#[test]
fn a_tool_that_turns_for_certain_turns_at_once() {
    let mut team = settled(&mut Random::new(3), 1.0);
    assert!(first_leads(&team));
    let turned = calls_until(&mut team, false, || call("first", false, 50.0));
    assert!(turned <= 5, "{turned}");
    team.record(&[call("first", false, 50.0); 40]);
    let returned = calls_until(&mut team, true, || call("first", true, 50.0));
    assert!(returned <= 20, "{returned}");
}

#[test]
fn noise_does_not_flap() {
    // Both succeed nine times of ten: how often does the lead change hands in 1,000 outcomes of each?
    let mut changes = Vec::new();
    for seed in 0..20 {
        let mut random = Random::new(100 + seed);
        let mut team = settled(&mut random, 0.9);
        let (mut leads, mut count) = (first_leads(&team), 0);
        for _ in 0..1_000 {
            team.record(&[
                call("first", random.next() < 0.9, 50.0),
                call("second", random.next() < 0.9, 50.0),
            ]);
            count += usize::from(first_leads(&team) != leads);
            leads = first_leads(&team);
        }
        changes.push(count);
    }
    let (median, most) = median_and_95th(changes);
    assert!(median <= 60 && most <= 100, "{median}, 95 % {most}");
}

#[test]
fn a_tool_that_slows_down_loses_its_lead_and_wins_it_back() {
    let mut team = settled(&mut Random::new(7), 1.0);
    // Of two, the typical duration is the longer one's: at ten times as long, the other is far faster than typical.
    let lost = calls_until(&mut team, false, || call("first", true, 5_000.0));
    assert!(lost <= 20, "{lost}");
    team.record(&[call("first", true, 5_000.0); 40]);
    let back = calls_until(&mut team, true, || call("first", true, 50.0));
    assert!(back <= 60, "{back}");
}
