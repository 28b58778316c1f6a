//! Properties over random teams: what a caller may not use never appears, the order is stable, scores are scores.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    registry::v1::{ServerState, ToolDefinition, ToolStatus},
    selector::v1::{Outcome, PinToolRequest, RankedTool, SelectToolsRequest, SelectToolsResponse},
    types::v1::Category,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::house::{House, outcome, task, tool};

const WORDS: [&str; 12] = [
    "search",
    "web",
    "mail",
    "invoice",
    "picture",
    "chart",
    "file",
    "weather",
    "translate",
    "run",
    "list",
    "send",
];
const CAPABILITIES: [&str; 4] = ["search", "generate", "execute", "transform"];

fn some(random: &mut StdRng, count: usize) -> String {
    (0..count).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect::<Vec<_>>().join(" ")
}

/// A random tool; of some there are several that differ in name only.
fn random_tool(random: &mut StdRng, number: usize) -> ToolDefinition {
    let description = if number.is_multiple_of(3) { "searches the web".to_owned() } else { some(random, 4) };
    ToolDefinition {
        category: random.random_range(0..4),
        cost_micro_usd: random.random_range(0..50),
        ..tool(&format!("tool_{number}"), &description, &[CAPABILITIES[random.random_range(0..4)]])
    }
}

fn request(random: &mut StdRng) -> SelectToolsRequest {
    let words = random.random_range(1..6);
    SelectToolsRequest {
        required_capabilities: if random.random_bool(0.3) {
            vec![CAPABILITIES[0].into()]
        } else {
            Vec::new()
        },
        category: i32::from(random.random_bool(0.2)),
        max_cost_micro_usd: random.random_bool(0.3).then_some(25),
        alternatives: Some(random.random_range(0..=20)),
        explore: random.random_bool(0.2),
        ..task(&some(random, words))
    }
}

fn told(answer: &SelectToolsResponse) -> impl Iterator<Item = &RankedTool> {
    answer.primary.iter().chain(&answer.alternatives).chain(&answer.pinned)
}

fn check(answer: &SelectToolsResponse, forbidden: &BTreeMap<String, &str>) {
    for tool in told(answer) {
        assert!(!forbidden.contains_key(&tool.name), "{} is offered: {answer:?}", tool.name);
        let scores = [
            tool.match_score,
            tool.suitability_score,
            tool.combined_score,
            tool.capability_score,
            tool.text_score,
            tool.semantic_score,
        ];
        let all = scores.iter().chain(tool.signals.values());
        assert!(all.clone().all(|score| (0.0..=1.0).contains(score)), "{tool:?}");
        let named =
            forbidden.keys().find(|name| tool.reason.split([' ', ';', ',']).any(|word| word == *name));
        assert_eq!(named, None, "{}", tool.reason);
    }
    assert!(answer.next_tools.iter().all(|next| !forbidden.contains_key(&next.name)), "{answer:?}");
    assert!((0.0..=1.0).contains(&answer.confidence));
    for miss in &answer.nearest_misses {
        assert!((0.0..=1.0).contains(&miss.semantic_score), "{miss:?}");
        if let Some(reason) = forbidden.get(&miss.name).filter(|reason| !reason.is_empty()) {
            assert!(miss.reason == *reason || answer.excluded.contains_key(&miss.reason), "{miss:?}");
        }
    }
}

/// One after another in one task, so that each is likely to come next.
fn sequences(random: &mut StdRng) -> Vec<Outcome> {
    let calls = (0..200).map(|call: usize| {
        let mut called = outcome("scout", &format!("tool_{}", random.random_range(0..30)), true, 50.0);
        called.task_id = format!("task-{}", call / 10);
        called.succeeded = random.random_bool(0.7);
        called
    });
    calls.collect()
}

#[tokio::test]
async fn a_tool_that_the_caller_may_not_use_never_appears_but_as_a_miss() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let house = House::new().await;
        let mut forbidden = BTreeMap::new();
        for number in 0..30 {
            let definition = random_tool(&mut random, number);
            let name = definition.name.clone();
            match random.random_range(0..6) {
                0 => house.add_to("team", ToolStatus::Quarantined, definition),
                1 => house.add_of_server("gone", ServerState::Unavailable, definition),
                2 | 3 => {
                    house.refuse(&name, "NO_GRANT");
                    house.add(definition);
                    forbidden.insert(name, "NO_GRANT");
                    continue;
                }
                _ => {
                    house.add(definition);
                    continue;
                }
            }
            forbidden.insert(name, "");
        }
        house.record(sequences(&mut random)).await.unwrap();
        for number in 0..10 {
            let pin = PinToolRequest { tool_name: format!("tool_{number}"), ..PinToolRequest::default() };
            house.client().pin_tool(house.by_operator("team", pin)).await.unwrap();
        }
        for _ in 0..60 {
            let answer = house.select(request(&mut random)).await.unwrap();
            check(&answer, &forbidden);
        }
    }
}

#[tokio::test]
async fn what_may_not_be_used_moves_nothing_in_the_answer() {
    let mut random = StdRng::seed_from_u64(7);
    let (with, without) = (House::new().await, House::new().await);
    for number in 0..20 {
        let definition = random_tool(&mut random, number);
        if number % 4 == 1 {
            with.refuse(&definition.name, "NO_GRANT");
            with.add(definition);
        } else {
            with.add(definition.clone());
            without.add(definition);
        }
    }
    for _ in 0..20 {
        let words = some(&mut random, 4);
        let names = async |house: &House| {
            let answer = house.select(task(&words)).await.unwrap();
            told(&answer).map(|tool| tool.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&with).await, names(&without).await, "{words}");
    }
}

#[tokio::test]
async fn the_order_is_the_same_however_tools_were_registered_and_however_often_it_is_asked() {
    let mut random = StdRng::seed_from_u64(3);
    let mut tools: Vec<ToolDefinition> = (0..30).map(|number| random_tool(&mut random, number)).collect();
    let requests: Vec<SelectToolsRequest> =
        (0..20).map(|_| SelectToolsRequest { explore: false, ..request(&mut random) }).collect();
    let mut answers: Vec<BTreeSet<Vec<String>>> = vec![BTreeSet::new(); requests.len()];
    for _ in 0..3 {
        tools.shuffle(&mut random);
        let house = House::new().await;
        for definition in &tools {
            house.add(definition.clone());
        }
        for (request, seen) in requests.iter().zip(&mut answers) {
            for _ in 0..2 {
                let answer = house.select(request.clone()).await.unwrap();
                let misses = answer.nearest_misses.iter().map(|miss| miss.name.clone());
                seen.insert(told(&answer).map(|tool| tool.name.clone()).chain(misses).collect());
            }
        }
    }
    for (request, seen) in requests.iter().zip(answers) {
        assert_eq!(seen.len(), 1, "{request:?}: {seen:?}");
    }
}

#[tokio::test]
async fn the_kind_of_a_task_is_what_was_asked_for_or_what_fits_best() {
    let house = House::new().await;
    let of = |name: &str, words: &str, category: Category| ToolDefinition {
        category: category.into(),
        ..tool(name, words, &[])
    };
    house.add(of("files", "reads files in a folder", Category::FileIo));
    house.add(of("mailer", "sends mail to people", Category::Communication));
    let answer = house.select(task("read the files in this folder")).await.unwrap();
    assert_eq!(answer.task_category(), Category::FileIo);
    let asked = SelectToolsRequest { category: Category::Communication.into(), ..task("read the files") };
    assert_eq!(house.select(asked).await.unwrap().task_category(), Category::Communication);
}
