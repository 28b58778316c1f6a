//! A model that is away, slow, broken or hostile: nothing comes of it but the word for what was wrong, in time.

use std::time::{Duration, Instant};

use testkit::{Authority, TlsServer};

use super::{
    super::Skip,
    Authorities, Config, Help, PATIENCE, Server, TASK, TOOLS, begin, completion, config, help,
    server::{Step, answer},
};

/// Time box of servers that never end their answer.
const SHORT: u64 = 300;

/// Asks once, and gives the word for why there is no answer. It must come in time.
async fn skipped(help: &Help) -> &'static str {
    let begun = Instant::now();
    let mut aid = begin(help);
    assert_eq!(aid.fit(TASK, &TOOLS).await, None);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let helped = aid.report();
    assert!(helped.uses.is_empty());
    helped.skipped
}

fn help_within(server: &Server, timeout_ms: u64) -> Help {
    Help::new(&Config { timeout_ms, ..config(&server.url()) }, &Authorities::default())
}

#[tokio::test]
async fn whatever_a_server_answers_is_survived_and_named() {
    let nested = format!(r#"{{"fits":{}"#, "[".repeat(20_000));
    let words = |words: &str| answer("200 OK", &completion(words));
    let cases: Vec<(&str, Vec<Step>, Skip)> = vec![
        ("an error", answer("500 Internal Server Error", "oops"), Skip::Unavailable),
        ("a refusal of everything", answer("400 Bad Request", "no"), Skip::Unavailable),
        ("no access", answer("401 Unauthorized", "{}"), Skip::Unavailable),
        ("nothing", answer("204 No Content", ""), Skip::Unavailable),
        ("a reset", vec![Step::Reset], Skip::Unavailable),
        ("a close", vec![], Skip::Unavailable),
        ("no HTTP", vec![Step::Send(b"SSH-2.0-x\r\n".to_vec())], Skip::Unavailable),
        (
            "a body that breaks off",
            vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec())],
            Skip::Unavailable,
        ),
        ("no JSON", answer("200 OK", "<html>"), Skip::InvalidAnswer),
        ("another shape", answer("200 OK", r#"{"choices":{"0":1}}"#), Skip::InvalidAnswer),
        ("no words", answer("200 OK", r#"{"choices":[{"message":{"content":null}}]}"#), Skip::InvalidAnswer),
        ("a deep nest", answer("200 OK", &"[".repeat(60_000)), Skip::InvalidAnswer),
        ("a large answer", answer("200 OK", &completion(&"x".repeat(70_000))), Skip::InvalidAnswer),
        (
            "a gzip that is none",
            vec![Step::Send(
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\ncontent-length: 4\r\n\r\n{{{{"
                    .to_vec(),
            )],
            Skip::Unavailable,
        ),
        ("words", words("I would take the first."), Skip::InvalidAnswer),
        ("words in a deep nest", words(&nested), Skip::InvalidAnswer),
        ("an unknown tool", words(r#"{"fits":[{"id":"t9","fit":1}]}"#), Skip::InvalidAnswer),
        ("a tool by its name", words(r#"{"fits":[{"id":"chat.post","fit":1}]}"#), Skip::InvalidAnswer),
        (
            "a tool twice",
            words(r#"{"fits":[{"id":"t1","fit":1},{"id":"t1","fit":0}]}"#),
            Skip::InvalidAnswer,
        ),
        ("no number", words(r#"{"fits":[{"id":"t1","fit":NaN}]}"#), Skip::InvalidAnswer),
        ("a number beyond all", words(r#"{"fits":[{"id":"t1","fit":1e999}]}"#), Skip::InvalidAnswer),
    ];
    for (what, steps, skip) in cases {
        let server = Server::start(move |_| steps.clone()).await;
        assert_eq!(skipped(&help(&server)).await, skip.as_str(), "{what}");
        assert!(server.count() >= 1, "{what}");
    }
}

#[tokio::test]
async fn a_silent_and_a_trickling_server_end_with_the_time_box() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n".to_vec();
    let slow_body = vec![Step::Send(head), Step::Repeat(b" ".to_vec(), Duration::from_millis(20))];
    for steps in [vec![Step::Hold], slow_head(), slow_body] {
        let server = Server::start(move |_| steps.clone()).await;
        assert_eq!(skipped(&help_within(&server, SHORT)).await, "timeout");
    }
    // A flood ends with its size, long before the box.
    let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    let flood = vec![Step::Send(head), Step::Repeat(vec![b' '; 8_192], Duration::ZERO)];
    let server = Server::start(move |_| flood.clone()).await;
    assert_eq!(skipped(&help_within(&server, 20_000)).await, "invalid_answer");
}

/// A head that never ends, a byte at a time.
fn slow_head() -> Vec<Step> {
    let start = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    vec![Step::Send(start), Step::Repeat(b"y".to_vec(), Duration::from_millis(20))]
}

#[tokio::test]
async fn nobody_listens_and_an_address_that_may_not_be_asked() {
    let server = Server::saying("{}").await;
    let url = server.url();
    drop(server);
    let gone = Help::new(&config(&url), &Authorities::default());
    let word = skipped(&gone).await;
    assert_eq!(word, "unavailable");
    let strict = Config { allow_private_network: false, ..config(&url) };
    assert_eq!(Help::new(&strict, &Authorities::default()).state("crew"), "off");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::saying(r#"{"fits":[{"id":"t1","fit":1}]}"#).await;
    let to = format!("307 Temporary Redirect\r\nlocation: {}/v1/chat/completions", target.url());
    let server = Server::start(move |_| answer(&to, "")).await;
    assert_eq!(skipped(&help(&server)).await, "unavailable");
    assert_eq!((server.count(), target.count()), (1, 0));
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_trusted_and_one_of_the_operators_is() {
    let authority = Authority::new();
    let body = completion(r#"{"fits":[{"id":"t1","fit":1}]}"#);
    let server = TlsServer::start(&authority.issue("127.0.0.1"), None, move |_| (200, body.clone()));
    let at = config(&format!("https://{}", server.address));
    assert_eq!(skipped(&Help::new(&at, &Authorities::default())).await, "unavailable");
    let known = Authorities::of(authority.pem().to_owned()).unwrap();
    let fits = begin(&Help::new(&at, &known)).fit(TASK, &TOOLS).await.unwrap();
    assert_eq!(fits, [Some(1.0), None]);
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is_not_asked_again() {
    let server = Server::start(|_| answer("429 Too Many Requests\r\nretry-after: 600", "{}")).await;
    let help = help(&server);
    assert_eq!(skipped(&help).await, "unavailable");
    assert_eq!(skipped(&help).await, "unavailable");
    assert_eq!((server.count(), help.state("crew")), (1, "open"));
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone() {
    let server = Server::start(|_| answer("503 Service Unavailable", "{}")).await;
    let help = help(&server);
    for _ in 0..20 {
        assert_eq!(skipped(&help).await, "unavailable");
    }
    assert_eq!((server.count(), help.state("crew")), (5, "open"));
    // Nonsense is a failure as well, and never kept.
    let server = Server::saying("the first one").await;
    let help = super::help(&server);
    for round in 0..20 {
        let word = if round < 5 { "invalid_answer" } else { "unavailable" };
        assert_eq!(skipped(&help).await, word);
    }
    assert_eq!((server.count(), help.state("crew")), (5, "open"));
}

#[tokio::test]
async fn what_one_team_gets_no_answer_to_shuts_no_other_out() {
    for steps in
        [answer("200 OK", &completion("no")), answer("200 OK", "{}"), answer("400 Bad Request", "no")]
    {
        let good = answer("200 OK", &completion(r#"{"fits":[{"id":"t1","fit":1}]}"#));
        let server =
            Server::start(move |request| if request.contains("odd") { steps.clone() } else { good.clone() });
        let server = server.await;
        let help = help(&server);
        for round in 0..20 {
            assert_eq!(begin(&help).fit(&format!("odd {round}"), &TOOLS).await, None);
        }
        assert_eq!((help.state("crew"), help.state("other")), ("open", "ready"));
        let fits = help.begin("other", None, PATIENCE).fit(TASK, &TOOLS).await;
        assert_eq!(fits, Some(vec![Some(1.0), None]));
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_gets_no_answer_and_shuts_nobody_else_out() {
    let steps = [vec![Step::Pause(Duration::from_millis(150))], answer("200 OK", &completion("x"))].concat();
    let server = Server::start(move |_| steps.clone()).await;
    let help = help(&server);
    for place in 0..8 {
        let begun = Instant::now();
        let mut aid = help.begin("crew", None, Duration::from_millis(40));
        assert_eq!(aid.fit(&format!("{TASK} {place}"), &TOOLS).await, None);
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(aid.report().skipped, "timeout");
    }
    assert_eq!(help.state("crew"), "ready");
    let mut late = help.begin("crew", None, Duration::ZERO);
    let asked = server.count();
    assert_eq!((late.fit("late", &TOOLS).await, late.report().skipped), (None, "timeout"));
    assert_eq!(server.count(), asked, "nothing is sent when there is no time");
    let patient = help.begin("crew", None, PATIENCE).fit(TASK, &TOOLS).await;
    assert_eq!((patient, server.count() > asked), (None, true));
}
