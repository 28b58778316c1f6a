//! Many servers at once, and how they are: bad ones cost the others nothing, and what is known of each outlives the
//! process.

use std::{
    process::{Child, Command, Stdio},
    time::Instant,
};

use ::rpc::{ErrorReason, reason_of};
use futures_util::{StreamExt, future::join_all};
use proto::registry::v1::{
    CredentialUse, GetRegistryHealthRequest, GetRegistryHealthResponse, HttpTransport, McpTransport,
    RegisterServerRequest, Server, ServerState, ToolStatus, WatchToolsRequest, credential_use::Place,
    mcp_transport, watch_tools_response::Event,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    servers::{Program, listing, tool},
    *,
};

/// An HTTP server process; it ends with this value.
struct HttpServer {
    process: Child,
    url: String,
}

impl HttpServer {
    async fn start(program: &Program) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("python3")
            .arg(program.path().with_file_name("server.py"))
            .args([program.path().display().to_string(), port.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}/mcp") };
        let until = Instant::now() + Duration::from_secs(30);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < until, "the server listens");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    fn request(&self, name: &str) -> RegisterServerRequest {
        let http = HttpTransport { url: self.url.clone(), headers: [].into() };
        let transport = McpTransport { kind: Some(mcp_transport::Kind::Http(http)), credentials: vec![] };
        RegisterServerRequest {
            name: name.into(),
            transport: Some(transport),
            ..RegisterServerRequest::default()
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A listing with more to say of the server.
fn with(mut content: Value, more: &Value) -> Value {
    content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    content
}

fn modern() -> Value {
    with(listing(&["a"]), &json!({"era": "2026-07-28"}))
}

impl Registry {
    async fn health(&self) -> GetRegistryHealthResponse {
        let request = request!(self, "team", GetRegistryHealthRequest {});
        self.client.clone().get_registry_health(request).await.unwrap().into_inner()
    }

    /// Waits until a server is as wanted.
    async fn server_until(&self, name: &str, is_done: impl Fn(&Server) -> bool) -> Server {
        let wait = async {
            loop {
                if let Some(server) = self.server(name).await.filter(|server| is_done(server)) {
                    return server;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), wait).await.expect("the server becomes as wanted")
    }
}

#[tokio::test]
async fn nineteen_servers_stay_fast_while_one_hangs_one_flaps_and_one_lies() {
    let slow = json!({"slow_ms": 100});
    let contents = [with(listing(&["a"]), &slow), with(modern(), &slow)];
    let programs: Vec<Program> = (0..19).map(|n| Program::new(&contents[n % 2])).collect();
    let (hangs, dies, lies) = (
        Program::new(&json!({"mode": "hang", "tools": []})),
        Program::new(&with(listing(&["a"]), &json!({"dies": true}))),
        Program::new(&with(listing(&["a"]), &json!({"lies": true}))),
    );
    let mut web = Vec::new();
    for program in &programs[..6] {
        web.push(HttpServer::start(program).await);
    }
    let registry = registry(&config(), &database().await);
    let bad = [("hangs", &hangs), ("dies", &dies), ("lies", &lies)].map(|(name, program)| {
        let request = request!(registry, "team", program.request(name));
        let mut client = registry.client.clone();
        tokio::spawn(async move { client.register_server(request).await })
    });
    let started = Instant::now();
    let added = programs.iter().enumerate().map(|(n, program)| {
        let name = format!("s{n}");
        let request = web.get(n).map_or_else(|| program.request(&name), |server| server.request(&name));
        registry.add(request)
    });
    for made in join_all(added).await {
        let server = made.server.unwrap();
        assert_eq!((server.state(), server.tool_count), (ServerState::Healthy, 1), "{server:?}");
        let era =
            if server.name[1..].parse::<usize>().unwrap() % 2 == 1 { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(server.protocol_version, era, "{server:?}");
    }
    println!("19 servers discovered after {:?}, 13 of them started first", started.elapsed());
    assert!(!bad[0].is_finished() && registry.server("hangs").await.unwrap().state() == ServerState::Pending);

    let mut beyond = Vec::new();
    for n in 0..19 {
        let started = Instant::now();
        let server = registry.refresh(&format!("s{n}")).await;
        let whole = started.elapsed();
        beyond.push(whole.saturating_sub(Duration::from_millis(100)));
        assert!(whole < Duration::from_secs(10) && server.discovery_ms >= 100, "{whole:?}: {server:?}");
    }
    beyond.sort();
    println!(
        "a discovery takes beyond the server's own 100 ms: median {:?}, most {:?}",
        beyond[9], beyond[18]
    );

    // Both eras announce their changes over standard input and output.
    for n in [6, 7] {
        programs[n].write(&with(contents[n % 2].clone(), &listing(&["a", "b"])));
    }
    for n in [6, 7] {
        registry.until(&format!("s{n}.b"), |tool| tool.status() == ToolStatus::Active).await;
    }
    // The one that flaps is seen to, and the one that lies at every listing is not asked for ever faster.
    let flaps = registry.server_until("dies", |server| server.state() == ServerState::Degraded).await;
    assert!(flaps.health < 0.8 && flaps.last_error.contains("connection ended"), "{flaps:?}");
    let (before, asked) = (lies.lists(), Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let lists = lies.lists() - before;
    println!("the one that lies was listed {lists} times in {:?}", asked.elapsed());
    assert!(lists <= 5, "listed {lists} times in 3 s");
    assert_eq!(registry.health().await.servers.len(), 22);
    for task in bad {
        task.abort();
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_probe_is_a_sign_of_life_in_every_era_and_over_every_transport() {
    let programs: Vec<Program> = (0..4).map(|n| Program::new(&[listing(&["a"]), modern()][n % 2])).collect();
    let web = [HttpServer::start(&programs[2]).await, HttpServer::start(&programs[3]).await];
    let registry = registry(&Config { health_check_interval_s: 1, ..config() }, &database().await);
    let requests =
        [programs[0].request("s0"), programs[1].request("s1"), web[0].request("s2"), web[1].request("s3")];
    for request in requests {
        registry.add(request).await;
    }
    for (n, program) in programs.iter().enumerate() {
        let name = format!("s{n}");
        let first = registry.server(&name).await.unwrap().last_probe_time;
        let probed = registry.server_until(&name, |server| server.last_probe_time != first).await;
        let again =
            registry.server_until(&name, |server| server.last_probe_time != probed.last_probe_time).await;
        assert_eq!((again.state(), again.last_error.as_str()), (ServerState::Healthy, ""), "{again:?}");
        assert!((again.health - 1.0).abs() < f64::EPSILON && again.latency_ms < 5_000.0, "{again:?}");
        assert_eq!(program.lists(), 1, "a probe lists nothing: {again:?}");
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_told_to_every_watcher_and_its_state_outlives_the_process() {
    let program = Program::new(&listing(&["a"]));
    let web = HttpServer::start(&program).await;
    let database = database().await;
    let config = Config { health_check_interval_s: 1, server_timeout_s: 1, ..config() };
    let before = registry(&config, &database);
    assert_eq!(before.health().await.state(), ServerState::Healthy, "without servers all is well");
    before.add(web.request("srv")).await;
    let watch = before.outgoing.own_request(Duration::from_mins(1), WatchToolsRequest::default());
    let mut events = before.client.clone().watch_tools(watch).await.unwrap().into_inner();
    let mut state = async || loop {
        let event =
            tokio::time::timeout(Duration::from_secs(30), events.next()).await.expect("an event in time");
        if let Some(Event::Upserted(tool)) = event.unwrap().unwrap().event {
            assert_eq!((tool.server.as_str(), tool.status()), ("srv", ToolStatus::Active));
            return tool.server_state();
        }
    };
    assert_eq!(state().await, ServerState::Healthy);
    program.write(&with(listing(&["a"]), &json!({"deaf": true})));
    assert_eq!(state().await, ServerState::Unavailable);
    let down = before.server("srv").await.unwrap();
    assert!(down.last_error.contains("timed out") && down.health < 1.0, "{down:?}");
    let health = before.health().await;
    assert_eq!((health.state(), health.active_tools, health.servers.len()), (ServerState::Unavailable, 1, 1));
    assert!((health.servers[0].error_rate - (1.0 - down.health)).abs() < 0.5, "{health:?}");
    before.stop().await;

    let after = registry(&Config { discovery_interval_s: 86_400, ..config.clone() }, &database);
    let known = after.server("srv").await.unwrap();
    assert_eq!((known.state(), known.last_seen_time), (ServerState::Unavailable, down.last_seen_time));
    program.write(&listing(&["a"]));
    let up = after.server_until("srv", |server| server.state() != ServerState::Unavailable).await;
    assert_eq!(up.state(), ServerState::Degraded, "{up:?}");
    let healthy = after.server_until("srv", |server| server.state() == ServerState::Healthy).await;
    assert!(healthy.health >= 0.8 && healthy.last_error.is_empty(), "{healthy:?}");
    assert_eq!(after.get("srv.a").await.unwrap().server_state(), ServerState::Healthy);
    after.stop().await;
}

async fn refused(registry: &Registry, request: RegisterServerRequest) -> tonic::Status {
    registry.client.clone().register_server(request!(registry, "team", request)).await.unwrap_err()
}

#[tokio::test]
async fn only_allowed_programs_are_registered_and_kept() {
    let program = Program::new(&listing(&["a"]));
    let database = database().await;
    let none = registry_allowing(mcp::Commands::only(["node", "/usr/bin/python3"]), &config(), &database);
    let status = refused(&none, program.request("srv")).await;
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::PermissionDenied, Some(ErrorReason::CommandNotAllowed))
    );
    assert!(
        ["python3", "mcp.stdio_commands"].iter().all(|says| status.message().contains(says)),
        "{status:?}"
    );
    assert!(none.server("srv").await.is_none());
    none.stop().await;

    let some = registry_allowing(mcp::Commands::only(["python3"]), &config(), &database);
    let mut preloads = program.request("srv");
    let Some(mcp_transport::Kind::Stdio(stdio)) = &mut preloads.transport.as_mut().unwrap().kind else {
        panic!()
    };
    stdio.env.insert("LD_PRELOAD".into(), "/tmp/evil.so".into());
    let status = refused(&some, preloads).await;
    assert_eq!(reason_of(&status), Some(ErrorReason::CommandNotAllowed));
    assert!(status.message().contains("LD_PRELOAD"), "{status:?}");
    let mut credential = program.request("srv");
    let place = Some(Place::Env("PYTHONPATH".into()));
    let used = CredentialUse { credential: "key".into(), place, prefix: String::new() };
    credential.transport.as_mut().unwrap().credentials.push(used);
    assert_eq!(reason_of(&refused(&some, credential).await), Some(ErrorReason::CommandNotAllowed));
    assert_eq!(some.add(program.request("srv")).await.server.unwrap().state(), ServerState::Healthy);
    some.stop().await;

    // The list is shorter now.
    let lists = program.lists();
    let none = registry_allowing(mcp::Commands::default(), &config(), &database);
    let server = none.server_until("srv", |server| server.state() == ServerState::Unavailable).await;
    assert!(server.last_error.contains("mcp.stdio_commands"), "{server:?}");
    assert_eq!(program.lists(), lists, "it was not started");
    none.stop().await;
}

#[tokio::test]
async fn a_server_that_is_to_be_verified_is_kept_only_when_it_answers() {
    let registry = registry(&config(), &database().await);
    let (exits, fine) = (Program::new(&json!({"mode": "exit", "tools": []})), Program::new(&listing(&["a"])));
    let status = refused(&registry, RegisterServerRequest { verify: true, ..exits.request("exits") }).await;
    assert_eq!(
        (status.code(), reason_of(&status)),
        (Code::Unavailable, Some(ErrorReason::ServerUnreachable))
    );
    assert!(status.message().contains("cannot start") && !status.message().contains("hush"), "{status:?}");
    assert!(registry.server("exits").await.is_none());
    let made = registry.add(RegisterServerRequest { verify: true, ..fine.request("fine") }).await;
    assert_eq!((made.server.unwrap().state(), made.tools.len()), (ServerState::Healthy, 1));
    let gone = HttpTransport { url: "http://127.0.0.1:9/mcp".into(), headers: [].into() };
    let transport = McpTransport { kind: Some(mcp_transport::Kind::Http(gone)), credentials: vec![] };
    let gone = RegisterServerRequest {
        name: "gone".into(),
        transport: Some(transport),
        ..RegisterServerRequest::default()
    };
    let kept = registry.add(gone.clone()).await.server.unwrap();
    assert!(
        kept.state() == ServerState::Unavailable && kept.last_error.contains("cannot connect"),
        "{kept:?}"
    );
    let status = refused(&registry, RegisterServerRequest { verify: true, ..gone }).await;
    assert_eq!(reason_of(&status), Some(ErrorReason::ServerUnreachable), "{status:?}");
    registry.stop().await;
}

#[tokio::test]
async fn a_credential_that_does_not_exist_is_told_by_its_name() {
    let registry = registry(&config(), &database().await);
    let program = Program::new(&json!({"tools": [tool("a")]}));
    let mut request = program.request("srv");
    let place = Some(Place::Env("TOKEN".into()));
    let used = CredentialUse { credential: "no-such-key".into(), place, prefix: String::new() };
    request.transport.as_mut().unwrap().credentials.push(used);
    let status = refused(&registry, request.clone()).await;
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("no-such-key"), "{status:?}");
    request.transport.as_mut().unwrap().credentials[0].place = Some(Place::Header("x-key".into()));
    let status = refused(&registry, request).await;
    assert!(status.message().contains("transport.credentials[0]"), "{status:?}");
    registry.stop().await;
}
