//! Properties, over histories that are random and the same in every run.

use super::{super::standing::Standing, Category, Ran, Random, Team, WEIGHTS, row};

const AGENTS: [&str; 4] = ["a", "b", "c", "d"];
const CATEGORIES: [Category; 3] = [Category::Custom, Category::FileIo, Category::WebSearch];
const TOOLS: [&str; 3] = ["x", "y", "z"];

fn some_call(random: &mut Random, rate: f64) -> Ran {
    Ran {
        agent: AGENTS[random.below(AGENTS.len())],
        tool: TOOLS[random.below(TOOLS.len())],
        category: CATEGORIES[random.below(CATEGORIES.len())],
        succeeded: random.next() < rate,
        // The same for every call of a tool.
        duration_ms: 0.0,
    }
    .as_slow_as_ever()
}

impl Ran {
    fn as_slow_as_ever(self) -> Self {
        let duration_ms = [20.0, 400.0, 3_000.0][TOOLS.iter().position(|tool| *tool == self.tool).unwrap()];
        Self { duration_ms, ..self }
    }
}

fn all_suitabilities(team: &Team, tools: &[&str]) -> Vec<f64> {
    let views =
        AGENTS.iter().chain(&["newcomer"]).flat_map(|agent| CATEGORIES.map(|category| (*agent, category)));
    let of = |(agent, category)| {
        let standings = team.standings(agent, category, tools);
        standings.into_iter().map(|standing| standing.suitability(&WEIGHTS)).collect::<Vec<_>>()
    };
    views.flat_map(of).collect()
}

#[test]
fn without_history_every_tool_stands_at_exactly_one_half() {
    let standing = Standing::default();
    assert!((standing.suitability(&WEIGHTS) - 0.5).abs() < f64::EPSILON);
    let mut team = Team::default();
    team.record(&[Ran { tool: "x", ..some_call(&mut Random::new(1), 0.0) }.as_slow_as_ever()]);
    // What others fail at is not held against it.
    let unknown = team.standings("a", Category::Custom, &["x", "unknown"])[1].clone();
    assert!((unknown.suitability(&WEIGHTS) - 0.5).abs() < f64::EPSILON);
    assert_eq!((unknown.figures, unknown.quality), (None, None));
}

#[test]
fn among_tools_that_always_work_a_slow_one_gains_by_each_success_and_none_stands_far_below() {
    let call = |tool, duration_ms| Ran {
        agent: "a",
        tool,
        category: Category::Custom,
        succeeded: true,
        duration_ms,
    };
    let mut team = Team::default();
    (0..30).for_each(|_| team.record(&[call("y", 50.0), call("z", 60.0)]));
    let mut before = 0.0;
    for successes in 0..30 {
        let all = team.suitability("newcomer", &["x", "y", "z", "unknown"]);
        assert!(all[0] >= before - 1e-9, "{before} fell to {} by success {successes}", all[0]);
        assert!(all[1] - all[3] < 0.15, "{all:?}");
        before = all[0];
        team.record(&[call("x", 3_000.0)]);
    }
}

#[test]
fn a_tool_that_only_succeeded_never_stands_below_one_half() {
    let mut random = Random::new(2);
    let mut team = Team::default();
    for _ in 0..200 {
        team.record(&[some_call(&mut random, 1.0)]);
        let lowest = all_suitabilities(&team, &TOOLS).into_iter().fold(1.0, f64::min);
        assert!(lowest >= 0.5, "{lowest}");
    }
}

#[test]
fn one_more_success_lowers_a_tool_with_nobody() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut team, rate) = (Team::default(), random.next());
        for _ in 0..250 {
            let success = Ran { succeeded: true, ..some_call(&mut random, 1.0) };
            // Alone: among others, their typical latency moves with the tool that it is the first call of.
            let before = all_suitabilities(&team, &[success.tool]);
            team.record(&[success]);
            let after = all_suitabilities(&team, &[success.tool]);
            for (before, after) in before.iter().zip(&after) {
                assert!(after >= &(before - 1e-9), "seed {seed}: {before} fell to {after} by {success:?}");
            }
            team.record(&[some_call(&mut random, rate)]);
        }
    }
}

#[test]
fn a_flood_of_one_agent_moves_another_within_the_bound_and_another_team_not_at_all() {
    let call =
        |agent, succeeded| Ran { agent, tool: "x", category: Category::Custom, succeeded, duration_ms: 50.0 };
    let (mut team, other) = (Team::default(), Team::default());
    (0..20).for_each(|_| team.record(&[call("honest", true), call("third", true)]));
    let before = team.suitability("honest", &["x"])[0];
    let newcomer_before = team.suitability("newcomer", &["x"])[0];
    team.record(&vec![call("flood", false); 10_000]);
    (0..10_000).for_each(|_| team.rate("flood", "x", 0.0));
    let (after, newcomer_after) =
        (team.suitability("honest", &["x"])[0], team.suitability("newcomer", &["x"])[0]);
    // 0.054 of it is the quality, of which nobody else has said anything.
    assert!(after < before && before - after < 0.12, "{before} {after}");
    // It has nothing of its own to hold against it: a flood is at most half of what it sees.
    assert!(newcomer_before - newcomer_after < 0.33, "{newcomer_before} {newcomer_after}");
    // What the flood is worth does not grow with it.
    team.record(&vec![call("flood", false); 10_000]);
    assert!((team.suitability("honest", &["x"])[0] - after).abs() < 0.001);
    assert!((other.suitability("honest", &["x"])[0] - 0.5).abs() < f64::EPSILON);
}

#[test]
fn the_order_of_delivery_matters_little_and_within_a_batch_not_at_all() {
    let mut random = Random::new(5);
    let rows: Vec<_> =
        (1..=300).map(|number| (row(some_call(&mut random, 0.8), number), Category::Custom)).collect();
    let mut in_order = Team::default();
    for row in &rows {
        in_order.take(std::slice::from_ref(row));
    }
    let mut backwards = rows.clone();
    backwards.reverse();
    let mut batch = Team::default();
    batch.take(&backwards);
    assert_eq!(batch.known.records, in_order.known.records);
    // Delivered in another order, up to ten places off.
    let mut places: Vec<(usize, usize)> = (0..rows.len()).map(|at| (at + random.below(10), at)).collect();
    places.sort_unstable();
    let mut shuffled = Team::default();
    for (_, at) in places {
        shuffled.take(std::slice::from_ref(&rows[at]));
    }
    let total = |team: &Team| team.known.records.values().map(|counts| counts.executions).sum::<i64>();
    assert_eq!(total(&shuffled), 300);
    for (left, right) in
        all_suitabilities(&in_order, &TOOLS).iter().zip(&all_suitabilities(&shuffled, &TOOLS))
    {
        assert!((left - right).abs() < 0.1, "{left} {right}");
    }
}

#[test]
fn every_standing_is_between_nothing_and_one() {
    let mut random = Random::new(9);
    let mut team = Team::default();
    let calls: Vec<Ran> = (0..500)
        .map(|_| Ran { duration_ms: 1e12 * random.next().powi(8), ..some_call(&mut random, 0.5) })
        .collect();
    team.record(&calls);
    (0..50).for_each(|_| team.rate("b", "y", random.next()));
    for suitability in all_suitabilities(&team, &TOOLS) {
        assert!((0.0..=1.0).contains(&suitability), "{suitability}");
    }
}

#[test]
fn the_agents_own_calls_of_the_kind_outweigh_all_others() {
    let mut team = Team::default();
    let call = |agent, category, succeeded| Ran { agent, tool: "x", category, succeeded, duration_ms: 50.0 };
    team.record(&[call("veteran", Category::Custom, true); 20]);
    team.record(&[call("scout", Category::Custom, false); 6]);
    team.record(&[call("scout", Category::FileIo, true); 6]);
    let success = |agent, category| team.standings(agent, category, &["x"])[0].parts.success;
    assert!(success("veteran", Category::Custom) > success("newcomer", Category::Custom));
    assert!(success("newcomer", Category::Custom) > success("scout", Category::Custom));
    assert!(success("scout", Category::Custom) < 0.5 && success("scout", Category::FileIo) > 0.6);
}
