//! A model that helps: what it is asked, what is made of its words, and how seldom it is asked.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use types::Category;

use super::{
    super::{Requirements, Skip, Use, blend},
    Authorities, Config, Help, PATIENCE, Server, TASK, TOOLS, begin, completion, config, help,
    server::{Step, answer},
};

const FITS: &str = r#"{"fits":[{"id":"t1","fit":0.9},{"id":"t2","fit":0.4}]}"#;

/// The body of a request.
fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Answers each question in its form.
fn all(request: &str) -> Vec<Step> {
    let words = match body(request)["response_format"]["json_schema"]["name"].as_str() {
        Some("requirements") => r#"{"capabilities":["integrate"],"category":"communication"}"#,
        Some("fits") => FITS,
        _ => r#"{"reason":"It posts to a channel."}"#,
    };
    answer("200 OK", &completion(words))
}

#[tokio::test]
async fn a_model_says_what_is_asked_for_what_fits_and_why() {
    let server = Server::start(all).await;
    let help = help(&server);
    let mut aid = begin(&help);
    let known = ["search", "integrate"];
    let asked = aid.requirements(TASK, &known).await.unwrap();
    let wanted =
        Requirements { capabilities: vec!["integrate".into()], category: Some(Category::Communication) };
    assert_eq!(asked, wanted);
    assert_eq!(aid.fit(TASK, &TOOLS).await.unwrap(), [Some(0.9), Some(0.4)]);
    let reason = aid.reason(TASK, TOOLS[0], &TOOLS[1..]).await.unwrap();
    assert_eq!(reason, "It posts to a channel.");
    let helped = aid.report();
    assert_eq!((helped.uses, helped.skipped), (vec!["requirements", "fit", "reasoning"], ""));
    assert_eq!(help.state("crew"), "ready");

    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(!requests[0].to_lowercase().contains("authorization:"), "there is no key");
    let sent = body(&requests[1]);
    assert_eq!((sent["model"].as_str(), sent["temperature"].as_i64()), (Some("m-1"), Some(0)));
    assert_eq!(sent["max_tokens"], 400);
    assert_eq!(sent["messages"][0]["role"], "system");
    let data: Value = serde_json::from_str(sent["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert_eq!((data["task"].as_str(), data["tools"][1]["name"].as_str()), (Some(TASK), Some("mail.send")));
}

#[tokio::test]
async fn an_equal_question_of_the_team_is_asked_once() {
    let body = completion(FITS);
    let mut steps = vec![Step::Pause(Duration::from_millis(100))];
    steps.extend(answer("200 OK", &body));
    let server = Server::start(move |_| steps.clone()).await;
    let help = help(&server);
    let (mut one, mut two) = (begin(&help), begin(&help));
    let (first, second) = tokio::join!(one.fit(TASK, &TOOLS), two.fit(TASK, &TOOLS));
    assert_eq!((&first, server.count()), (&second, 1));
    assert_eq!((begin(&help).fit(TASK, &TOOLS).await, server.count()), (first, 1));
    assert!(begin(&help).fit("another task", &TOOLS).await.is_some());
    assert!(begin(&help).fit(TASK, &TOOLS[..1]).await.is_none(), "t2 was not offered");
    assert_eq!(server.count(), 3);
    let mut stranger = help.begin("others", None, PATIENCE);
    assert!(stranger.fit(TASK, &TOOLS).await.is_some());
    assert_eq!(server.count(), 4, "no team gets what another one asked for");
}

#[tokio::test]
async fn a_team_has_so_many_questions_a_day_and_kept_answers_cost_none() {
    let server = Server::saying(FITS).await;
    let few = Config { daily_calls_per_team: 2, ..config(&server.url()) };
    let help = Help::new(&few, &Authorities::default());
    for task in ["one", "two", "one"] {
        assert!(begin(&help).fit(task, &TOOLS).await.is_some());
    }
    let mut aid = begin(&help);
    assert_eq!(aid.fit("three", &TOOLS).await, None);
    assert_eq!(aid.report().skipped, Skip::Budget.as_str());
    assert_eq!((help.state("crew"), help.state("others"), server.count()), ("budget", "ready", 2));
    assert!(begin(&help).fit("two", &TOOLS).await.is_some(), "a kept answer costs nothing");
}

#[tokio::test]
async fn nothing_is_asked_where_no_help_is_wanted() {
    let server = Server::saying(FITS).await;
    let shy = Config { by_default: false, uses: vec![Use::Fit], ..config(&server.url()) };
    let help = Help::new(&shy, &Authorities::default());
    let mut aid = begin(&help);
    assert_eq!(aid.fit(TASK, &TOOLS).await, None);
    assert_eq!(aid.report().skipped, "off");
    let mut aid = help.begin("crew", Some(true), PATIENCE);
    assert_eq!(aid.requirements(TASK, &["search"]).await, None, "not among the uses");
    assert_eq!(aid.fit("  ", &TOOLS).await, None, "there is nothing to judge by");
    assert_eq!((aid.fit(TASK, &[]).await, server.count()), (None, 0));
    assert!(aid.fit(TASK, &TOOLS).await.is_some());
    assert_eq!(aid.report().uses, ["fit"]);
    let off = Help::new(&Config::off(), &Authorities::default());
    assert_eq!((off.state("crew"), off.begin("crew", Some(true), PATIENCE).report().skipped), ("off", "off"));
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let folder = testkit::folder();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "sk-open-sesame\n").unwrap();
    let server = Server::saying(FITS).await;
    let keyed =
        |key_file: PathBuf| Help::new(&Config { key_file, ..config(&server.url()) }, &Authorities::default());
    let help = keyed(key_file.clone());
    assert!(begin(&help).fit(TASK, &TOOLS).await.is_some());
    assert!(server.requests()[0].contains("authorization: Bearer sk-open-sesame\r\n"));
    assert!(!format!("{help:?}").contains("sesame"));
    // Another key counts at once; without one nothing is sent.
    std::fs::write(&key_file, "sk-second").unwrap();
    assert!(begin(&help).fit("again", &TOOLS).await.is_some());
    assert!(server.requests()[1].contains("Bearer sk-second\r\n"));
    std::fs::remove_file(&key_file).unwrap();
    let mut aid = begin(&help);
    assert_eq!((aid.fit("and again", &TOOLS).await, server.count()), (None, 2));
    assert_eq!(aid.report().skipped, "unavailable");
}

#[tokio::test]
async fn a_server_that_takes_no_schema_is_asked_without_one_from_then_on() {
    let words = completion(&format!("Here you are:\n```json\n{FITS}\n```"));
    let server = Server::start(move |request| {
        if body(request).get("response_format").is_some() {
            return answer("400 Bad Request", r#"{"error":{"message":"unknown field response_format"}}"#);
        }
        answer("200 OK", &words)
    });
    let server = server.await;
    let help = help(&server);
    for task in ["one", "two"] {
        assert_eq!(begin(&help).fit(task, &TOOLS).await.unwrap(), [Some(0.9), Some(0.4)]);
    }
    assert_eq!(server.count(), 3);
    assert!(body(&server.requests()[2]).get("temperature").is_none());
}

#[test]
fn the_model_weighs_less_than_a_third() {
    assert!((blend(0.5, None) - 0.5).abs() < 1e-12);
    assert!((blend(0.5, Some(1.0)) - 0.65).abs() < 1e-12);
    for step in 0..=10 {
        let semantic = f64::from(step) / 10.0;
        for fit in [f64::NEG_INFINITY, -1.0, 0.0, 0.5, 1.0, 9.0] {
            let moved = (blend(semantic, Some(fit)) - semantic).abs();
            assert!(moved <= 0.3 + 1e-12, "{semantic} {fit}");
        }
    }
}
