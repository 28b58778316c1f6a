//! Where HTTP tools may not go: every spelling of an address that is not public, as an address, behind a name and
//! behind a redirect. A canary listens where they would arrive and must never be connected to.

use std::{collections::HashMap, net::TcpListener};

use proto::{
    registry::v1::{HttpBinding, ToolDefinition, binding::Kind},
    types::v1::Effect,
};
use serde_json::{Value, json};

use super::{
    drive::{Drive, getting},
    house::{bound, builtin},
    upstream::{Raw, Step},
};
use crate::outcome::{Reached, ToolErrorCode};

/// Addresses; `{port}` is the canary's.
const FORMS: &[&str] = &[
    // One loopback address, spelled in every way.
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://127.8.9.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127\u{3002}0\u{3002}0\u{3002}1:{port}/",
    "http://\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}:{port}/",
    "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    // This machine, by its other names.
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://[::]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://any.localhost:{port}/",
    // Private, link-local, shared, special.
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://192.168.0.1:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fc00::1]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://100.64.0.1:{port}/",
    "http://192.0.0.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://198.19.255.254:{port}/",
    "http://240.0.0.1:{port}/",
    "http://224.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    // Names that lead there.
    "http://loopback.test:{port}/",
    "http://loopback.test.:{port}/",
    "http://loopback6.test:{port}/",
    "http://mapped.test:{port}/",
    "http://nat64.test:{port}/",
    "http://metadata.test:{port}/",
    "http://several.test:{port}/",
    // What parsers read in different ways.
    "http://public.test@127.0.0.1:{port}/",
    "http://public.test:80@127.0.0.1:{port}/",
    "http://public.test%40127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@public.test/",
    "http:\\\\127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http://127.0.0.1%00.public.test:{port}/",
    "http://127.0.\t0.1:{port}/",
    "\nhttp://127.0.0.1:{port}/",
    // Other ports and other protocols.
    "http://public.test:0/",
    "http://public.test:22/",
    "http://public.test:25/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:22/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "ftp://127.0.0.1:{port}/",
    "dict://127.0.0.1:{port}/",
    "data:text/plain,x",
];

/// Listeners on the loopback addresses, at the port of a server that stands for the public internet.
struct Canary(Vec<TcpListener>);

impl Canary {
    fn new(port: u16) -> Option<Self> {
        let v4 = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let all: Vec<_> = [Some(v4), TcpListener::bind(("::1", port)).ok()].into_iter().flatten().collect();
        for listener in &all {
            listener.set_nonblocking(true).unwrap();
        }
        Some(Self(all))
    }

    /// Every connection waits to be accepted, however short it was.
    fn connections(&self) -> usize {
        self.0.iter().filter(|listener| listener.accept().is_ok()).count()
    }
}

/// Drivers, a public server that does as it is told, and the canary at the same port.
async fn scene(script: impl Fn(&str) -> Vec<Step> + Clone + Send + Sync + 'static) -> (Drive, Raw, Canary) {
    let drive = Drive::new();
    for (name, address) in [
        ("loopback.test", &["127.0.0.1"][..]),
        ("loopback6.test", &["::1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("nat64.test", &["64:ff9b::7f00:1"]),
        ("metadata.test", &["169.254.169.254"]),
        ("several.test", &["127.0.0.1", "10.0.0.1", "::1"]),
        ("public.test", &["127.0.0.2"]),
        ("half.test", &["127.0.0.1", "::1", "127.0.0.2"]),
    ] {
        drive.names.set(name, &[address]);
    }
    loop {
        let public = Raw::on("127.0.0.2:0", script.clone()).await;
        if let Some(canary) = Canary::new(public.address.port()) {
            return (drive, public, canary);
        }
    }
}

/// Fails unless the failure is one of an address that was refused, or was none.
fn assert_refused(form: &str, code: ToolErrorCode) {
    let refusals = [
        ToolErrorCode::AddressRefused,
        // An address that cannot be read, in a binding, an argument, or a redirect.
        ToolErrorCode::NotConfigured,
        ToolErrorCode::ToolFailed,
        ToolErrorCode::Protocol,
    ];
    assert!(refusals.contains(&code), "{form:?}: {code:?}");
}

#[tokio::test]
async fn no_spelling_of_an_address_that_is_not_public_is_connected_to() {
    let (drive, public, canary) = scene(|_| Step::answer("200 OK", "{}")).await;
    let port = public.address.port().to_string();
    for form in FORMS {
        let url = form.replace("{port}", &port);
        let failure = drive.failure(&getting(&url), &json!({})).await;
        assert_refused(form, failure.code);
        assert_eq!(failure.reached, Reached::No, "{form}: {failure:?}");
        let failure = drive.failure(&builtin("http_request"), &json!({ "url": url })).await;
        assert_refused(form, failure.code);
        assert_eq!((canary.connections(), public.connections()), (0, 0), "{form}");
    }
    // The same tools reach what is public, so that the refusals above are about the address.
    let url = format!("http://public.test:{port}/");
    drive.run(&getting(&url), &json!({})).await.unwrap();
    drive.run(&builtin("http_request"), &json!({ "url": url })).await.unwrap();
    assert_eq!((canary.connections(), public.connections()), (0, 2));
}

#[tokio::test]
async fn no_redirect_leads_to_an_address_that_is_not_public() {
    let (drive, public, canary) = scene(|request| {
        // A form that is relative, seen from here, leads back here.
        let Some((_, query)) = request.split_once(" /?") else { return Step::answer("404 Not Found", "") };
        let (status, to) = query.split_once(' ').unwrap().0.split_once('&').unwrap();
        let to: Vec<u8> = url::form_urlencoded::parse(to.as_bytes()).next().unwrap().0.bytes().collect();
        // A line break would end the header: these forms cannot come in one.
        let to: Vec<u8> = to.into_iter().filter(|byte| *byte != b'\n').collect();
        let head = format!("HTTP/1.1 {status} Moved\r\nconnection: close\r\ncontent-length: 0\r\nlocation: ");
        vec![Step::Send([head.as_bytes(), &to, b"\r\n\r\n"].concat())]
    })
    .await;
    let port = public.address.port().to_string();
    for (index, form) in FORMS.iter().enumerate() {
        let status = [301, 302, 303, 307, 308][index % 5];
        let encoded: String =
            url::form_urlencoded::byte_serialize(form.replace("{port}", &port).as_bytes()).collect();
        let url = format!("http://public.test:{port}/?{status}&{encoded}");
        let failure = drive.failure(&getting(&url), &json!({})).await;
        assert_refused(form, failure.code);
        assert_eq!(canary.connections(), 0, "{status} {form}");
        assert!(public.connections() > index, "{status} {form}");
    }
}

#[tokio::test]
async fn a_chain_of_redirects_is_checked_at_every_step_and_has_an_end() {
    let (drive, public, canary) = scene(|request| {
        let at: usize = request.split('/').nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let to = if at == 3 { "http://loopback.test:PORT/".to_owned() } else { format!("/{}", at + 1) };
        let port = request.split("host: public.test:").nth(1).unwrap().split('\r').next().unwrap();
        Step::answer(&format!("302 Found\r\nlocation: {}", to.replace("PORT", port)), "")
    })
    .await;
    let port = public.address.port();
    let failure = drive.failure(&getting(&format!("http://public.test:{port}/1")), &json!({})).await;
    assert_eq!((failure.code, public.connections()), (ToolErrorCode::AddressRefused, 3));
    let failure = drive.failure(&getting(&format!("http://public.test:{port}/10")), &json!({})).await;
    assert!(failure.message.contains("redirects") && public.connections() < 12, "{failure:?}");
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_a_connection_and_believed_only_while_public() {
    let (drive, public, canary) = scene(|request| {
        let body = "{\"ok\":true}";
        if request.contains("/close") {
            return Step::answer("200 OK\r\ncontent-type: application/json", body);
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n";
        vec![Step::text(format!("{head}{body}"))]
    })
    .await;
    drive.names.set("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let tool = |path: &str| getting(&format!("http://rebind.test:{}/{path}", public.address.port()));
    // Kept open, the connection is the checked one and no name is asked again.
    drive.run(&tool("keep"), &json!({})).await.unwrap();
    drive.run(&tool("close"), &json!({})).await.unwrap();
    assert_eq!((drive.names.asked(), public.connections(), canary.connections()), (1, 1, 0));
    for _ in 0..3 {
        let failure = drive.failure(&tool("keep"), &json!({})).await;
        assert_eq!(failure.code, ToolErrorCode::AddressRefused);
    }
    assert_eq!((drive.names.asked(), public.connections(), canary.connections()), (4, 1, 0));
}

#[tokio::test]
async fn of_a_names_addresses_only_the_public_ones_are_tried() {
    let (drive, public, canary) = scene(|_| Step::answer("200 OK", "{}")).await;
    drive.run(&getting(&format!("http://half.test:{}/", public.address.port())), &json!({})).await.unwrap();
    assert_eq!((public.connections(), canary.connections()), (1, 0));
}

/// A tool with a body and a key, of this effect.
fn writing(method: &str, url: &str, effect: Effect) -> ToolDefinition {
    let http = HttpBinding {
        method: method.into(),
        url: url.into(),
        headers: HashMap::from([("x-api-key".into(), "k".into()), ("accept".into(), "text/plain".into())]),
        body_json: true,
        allow_private_network: true,
        ..HttpBinding::default()
    };
    ToolDefinition { effect: effect.into(), ..bound("writing", Kind::Http(http)) }
}

#[tokio::test]
async fn a_body_goes_where_a_redirect_points_only_if_it_may_be_sent_twice_or_stays_at_home() {
    let key = (&proto::registry::v1::idempotency_key::Place::Header("Idempotency-Key".into()), "key-1");
    let given = json!({"amount": 7});
    for (status, effect, abroad, arrives) in [
        (301, Effect::SideEffect, true, Some(("GET", false))),
        (302, Effect::SideEffect, true, Some(("GET", false))),
        (303, Effect::SideEffect, true, Some(("GET", false))),
        (307, Effect::SideEffect, true, None),
        (308, Effect::SideEffect, true, None),
        (307, Effect::Idempotent, true, Some(("POST", true))),
        (308, Effect::ReadOnly, true, Some(("POST", true))),
        (307, Effect::SideEffect, false, Some(("POST", true))),
        (308, Effect::SideEffect, false, Some(("POST", true))),
    ] {
        let target = Raw::new(|_| Step::answer("200 OK", "")).await;
        let to = if abroad { target.url() + "/there" } else { "/there".to_owned() };
        let home = Raw::new(move |request| {
            let moved = format!("{status} Moved\r\nlocation: {to}");
            Step::answer(if request.contains("/there") { "200 OK" } else { &moved }, "")
        })
        .await;
        let drive = Drive::new();
        let tool = writing("POST", &format!("{}/start", home.url()), effect);
        let ended = drive.run_within(super::house::PATIENCE, &tool, &given, Some(key)).await;
        let first = home.requests().remove(0);
        assert!(first.contains("x-api-key: k") && first.contains("idempotency-key: key-1"), "{first}");
        let case = format!("{status} {effect:?} abroad: {abroad}");
        let Some((method, has_body)) = arrives else {
            let failure = ended.unwrap_err();
            assert!(failure.message.contains("another origin"), "{case}: {failure:?}");
            assert_eq!((failure.reached, target.connections()), (Reached::No, 0), "{case}");
            continue;
        };
        ended.unwrap();
        let last = if abroad { target.requests().remove(0) } else { home.requests().remove(1) };
        assert!(last.starts_with(&format!("{method} /there ")), "{case}: {last}");
        assert_eq!(last.contains("\"amount\":7"), has_body, "{case}: {last}");
        assert_eq!(last.contains("x-api-key"), !abroad, "{case}: {last}");
        assert_eq!(last.contains("idempotency-key"), !abroad, "{case}: {last}");
        assert!(last.contains("accept: text/plain"), "{case}: {last}");
    }
}

#[tokio::test]
async fn what_acts_without_a_body_follows_no_redirect_to_another_origin_either() {
    for (method, effect, arrives) in [
        ("DELETE", Effect::SideEffect, false),
        ("POST", Effect::SideEffect, false),
        ("DELETE", Effect::Idempotent, true),
        ("GET", Effect::SideEffect, true),
    ] {
        let target = Raw::new(|_| Step::answer("200 OK", "")).await;
        let to = target.url();
        let home = Raw::new(move |_| Step::answer(&format!("307 Moved\r\nlocation: {to}"), "")).await;
        let mut tool = writing(method, &home.url(), effect);
        let Some(Kind::Http(http)) = tool.binding.as_mut().and_then(|binding| binding.kind.as_mut()) else {
            unreachable!()
        };
        http.body_json = false;
        let ended = Drive::new().run(&tool, &json!({})).await;
        assert_eq!(
            (ended.is_ok(), target.connections()),
            (arrives, usize::from(arrives)),
            "{method} {effect:?}"
        );
        if let Err(failure) = ended {
            assert_eq!(failure.reached, Reached::No, "{failure:?}");
        }
    }
}

#[tokio::test]
async fn what_stands_in_an_argument_never_becomes_a_line_of_the_request() {
    let server = Raw::new(|_| Step::answer("200 OK", "")).await;
    let drive = Drive::new();
    let http = HttpBinding {
        method: "POST".into(),
        url: format!("{}/a/{{path}}?fixed={{inner}}", server.url()),
        query_arguments: vec!["query".into()],
        body_json: true,
        allow_private_network: true,
        ..HttpBinding::default()
    };
    let tool = bound("tool", Kind::Http(http));
    let evil = "x\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n\0#?&/../";
    let given = json!({"path": evil, "inner": evil, "query": evil, "body": evil});
    drive.run(&tool, &given).await.unwrap();
    let sent = server.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let is_evil = |line: &str| line.to_lowercase().starts_with("x-evil") || line.starts_with("GET");
    assert!(!head.lines().any(is_evil) && !head.contains('\0'), "{head}");
    assert_eq!(head.lines().next().unwrap().split(' ').count(), 3, "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({ "body": evil }));
}

#[tokio::test]
async fn a_header_of_http_request_is_one_line_or_is_refused() {
    let server = Raw::on("127.0.0.2:0", |_| Step::answer("200 OK", "")).await;
    let drive = Drive::new();
    let ask = async |headers: Value| {
        drive.run(&builtin("http_request"), &json!({ "url": server.url(), "headers": headers })).await
    };
    for headers in [
        json!({"x-a": "1\r\nx-evil: 1"}),
        json!({"x-a": "1\nx-evil: 1"}),
        json!({"x-a": "\0"}),
        json!({"x-a\r\nx-evil": "1"}),
        json!({"x-a: 1\r\nx-evil": "1"}),
        json!({"": "1"}),
        json!({"Host": "evil"}),
        json!({"Content-Length": "0"}),
        json!({"Transfer-Encoding": "chunked"}),
    ] {
        let failure = ask(headers.clone()).await.unwrap_err();
        assert!(failure.message.contains("header"), "{headers} {failure:?}");
        assert_eq!((failure.reached, server.connections()), (Reached::No, 0), "{headers}");
    }
    ask(json!({"x-a": "tab\tand ümlaut"})).await.unwrap();
    assert_eq!(server.connections(), 1);
}
