//! The matcher over a cache: it learns, serves, notices that it is wrong, and never serves what the cache
//! would not.

use cache::{Cache, Cached, Key, Look, Matcher, Mode, Question, Semantic};
use serde_json::json;

use crate::{LIMITS, LONG};

fn settings() -> Semantic {
    Semantic { field: "q".into(), min_similarity: 0.8, max_error: 0.1, shadow_rate: 1e-12 }
}

fn question(text: &str, settings: &Semantic) -> Question {
    let arguments = json!({"q": text, "lang": "en"});
    Question::of(&key(text), &arguments, settings).unwrap()
}

fn key(text: &str) -> Key {
    Key::of("team", "tool", "digest", "", &json!({"q": text, "lang": "en"})).unwrap()
}

async fn remember(cache: &Cache, matcher: &Matcher, text: &str, answer: Cached, settings: &Semantic) {
    let ticket = cache.get(&key(text)).await.ticket;
    assert!(cache.put(&key(text), answer, LONG, ticket).await);
    matcher.remember(&question(text, settings));
}

/// A matcher that has one answer and serves it.
async fn serving(cache: &Cache, settings: &Semantic) -> Matcher {
    let matcher = Matcher::new();
    remember(cache, &matcher, "capital of Australia", Cached::success("\"Canberra\""), settings).await;
    let asked = question("What is the capital of Australia?", settings);
    loop {
        assert!(matches!(matcher.look(cache, &asked).await, Look::Shadow(_)), "not before it has learnt");
        if matcher.observe(&asked, true) == Mode::Serving {
            return matcher;
        }
    }
}

#[tokio::test]
async fn it_learns_then_serves_then_switches_itself_off_until_the_settings_change() {
    let cache = Cache::memory(LIMITS);
    let matcher = serving(&cache, &settings()).await;
    let asked = question("What is the capital of Australia?", &settings());
    let standing = matcher.standing("team", "tool", "digest").unwrap();
    assert!(
        standing.comparisons > 29,
        "29 comparisons are the least that any test takes for 10 %: {standing:?}"
    );

    let Look::Serve(matched) = matcher.look(&cache, &asked).await else { panic!("it serves") };
    assert_eq!(matched.found.value, Cached::success("\"Canberra\""));
    assert_eq!(matched.key, key("capital of Australia"));
    assert!(matched.similarity >= 0.8);
    assert_eq!(cache.stats("team", Some("tool")).await[0].semantic_hits, 1);

    while matcher.observe(&asked, false) != Mode::Off {}
    assert!(matches!(matcher.look(&cache, &asked).await, Look::None));
    let changed = Semantic { max_error: 0.2, ..settings() };
    let again = question("What is the capital of Australia?", &changed);
    assert!(matches!(matcher.look(&cache, &again).await, Look::Shadow(_)), "new settings learn anew");
    assert_eq!(matcher.observe(&asked, true), Mode::Learning, "comparisons under old settings count nowhere");
    assert_eq!(matcher.standing("team", "tool", "digest").unwrap().comparisons, 0);
}

#[tokio::test]
async fn while_serving_a_share_is_still_compared() {
    let cache = Cache::memory(LIMITS);
    let settings = Semantic { shadow_rate: 0.5, ..settings() };
    let matcher = serving(&cache, &settings).await;
    let asked = question("What is the capital of Australia?", &settings);
    let (mut served, mut compared) = (0, 0);
    for _ in 0..400 {
        match matcher.look(&cache, &asked).await {
            Look::Serve(_) => served += 1,
            Look::Shadow(_) => compared += 1,
            Look::None => panic!("the answer is there"),
        }
    }
    // Six standard deviations around 200.
    assert!((140..260).contains(&served) && served + compared == 400, "{served} {compared}");
}

#[tokio::test]
async fn the_nearest_of_several_is_taken() {
    let cache = Cache::memory(LIMITS);
    let matcher = Matcher::new();
    for text in
        ["capital of Austria", "capital of Australia", "population of Australia", "capital of Albania"]
    {
        remember(&cache, &matcher, text, Cached::success(format!("\"{text}\"")), &settings()).await;
    }
    remember(&cache, &matcher, "capital city of Australia", Cached::success("1"), &settings()).await;
    let loose = Semantic { min_similarity: 0.5, ..settings() };
    let asked = question("the capital of Australia, please", &loose);
    let Look::Shadow(matched) = matcher.look(&cache, &asked).await else { panic!("there is one") };
    assert_eq!(matched.key, key("capital of Australia"));
}

#[tokio::test]
async fn what_is_negative_invalidated_or_gone_is_never_matched() {
    let cache = Cache::memory(LIMITS);
    let matcher = Matcher::new();
    let asked = question("What is the capital of Australia?", &settings());
    remember(&cache, &matcher, "capital of Australia", Cached::refusal("{}"), &settings()).await;
    assert!(
        matches!(matcher.look(&cache, &asked).await, Look::None),
        "an error is no answer to another text"
    );

    let digest = key("capital of Australia").arguments_digest;
    for invalidated in [None, Some(digest.as_str())] {
        remember(&cache, &matcher, "capital of Australia", Cached::success("1"), &settings()).await;
        assert!(matches!(matcher.look(&cache, &asked).await, Look::Shadow(_)));
        cache.invalidate("team", "tool", invalidated).await;
        assert!(matches!(matcher.look(&cache, &asked).await, Look::None));
    }
}

#[tokio::test]
async fn a_near_miss_is_not_matched() {
    let cache = Cache::memory(LIMITS);
    let loose = Semantic { min_similarity: 0.01, ..settings() };
    let matcher = Matcher::new();
    remember(&cache, &matcher, "GDP of Brazil in 2023", Cached::success("1"), &loose).await;
    for text in ["GDP of Brazil in 2024", "GDP of Brazil not in 2023", "GDP of Brazil"] {
        let asked = question(text, &loose);
        assert!(matches!(matcher.look(&cache, &asked).await, Look::None), "{text}");
    }
    let same = question("GDP of Brazil in 2023?", &loose);
    assert!(matches!(matcher.look(&cache, &same).await, Look::Shadow(_)));
}
