//! A real MCP server (`server-everything` over streamable HTTP), to be called directly and through toolcrib.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use mcp::Transport;
use proto::registry::v1::{
    HttpTransport, McpTransport, RegisterServerRequest, ServerState, mcp_transport::Kind,
};
use serde_json::{Map, Value};
use tests::{PATIENCE, eventually};
use tonic::Request;

use crate::{
    load::{self, Loop, Measured},
    stage::{Suite, unlimit},
};

/// The program, as `make setup` installs it.
const PROGRAM: &str = "mcp/node/node_modules/.bin/mcp-server-everything";
/// Its tool, by its own name and by that of the catalog.
const TOOL: &str = "echo";
pub const CATALOG_TOOL: &str = "everything.echo";
/// What it is called with.
pub const ARGUMENTS: &str = r#"{"message": "the quick brown fox jumps over the lazy dog"}"#;
/// Callers that share a session.
const CALLERS_A_SESSION: usize = 16;
/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// The server; it ends with this.
pub struct Everything {
    process: Child,
    url: String,
}

impl Everything {
    /// Starts it on a free port; `None` where it is not installed.
    pub async fn start() -> Option<Self> {
        let program = testkit::installed(PROGRAM, "scripts/install-mcp-servers")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let mut command = Command::new(program);
        command.arg("streamableHttp").env("PORT", port.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the server starts");
        let server = Self { process, url: format!("http://127.0.0.1:{port}/mcp") };
        let connects = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok();
        eventually("the MCP server listens", connects).await;
        Some(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Puts its tools into the catalog, and lets the agent call the echo.
    pub async fn register(&self, suite: &Suite) {
        let http = HttpTransport { url: self.url.clone(), ..HttpTransport::default() };
        let transport = Some(McpTransport { kind: Some(Kind::Http(http)), ..McpTransport::default() });
        let request = RegisterServerRequest {
            name: "everything".to_owned(),
            transport,
            ..RegisterServerRequest::default()
        };
        let mut request = Request::new(request);
        request.set_timeout(PATIENCE);
        let answer = suite.admin.registry().register_server(request).await.expect("the server is registered");
        let server = answer.into_inner().server.unwrap_or_default();
        assert_eq!(server.state(), ServerState::Healthy, "{server:?}");
        unlimit(&suite.admin, CATALOG_TOOL).await;
        suite.grant(CATALOG_TOOL).await;
    }

    /// Calls of the echo without toolcrib.
    pub async fn call(&self, plan: Loop, begin: impl FnOnce(), end: impl FnOnce()) -> Measured {
        let transport = Transport::Http { url: self.url.clone(), headers: [].into() };
        let mut sessions = Vec::new();
        for _ in 0..plan.callers.div_ceil(CALLERS_A_SESSION) {
            sessions.push(mcp::Client::connect(&transport, PATIENCE).await.expect("a session"));
        }
        let arguments: Map<String, Value> = serde_json::from_str(ARGUMENTS).expect("an object");
        let caller = |index: usize| {
            let (session, arguments) = (sessions[index % sessions.len()].clone(), arguments.clone());
            move || {
                let (session, arguments) = (session.clone(), arguments.clone());
                async move {
                    let result = session.call_tool(TOOL, arguments, CALL).await;
                    let result = result.map_err(|error| error.to_string())?;
                    if result.is_error { Err(format!("{result:?}")) } else { Ok(()) }
                }
            }
        };
        let measured = load::run(plan, caller, begin, end).await;
        for session in sessions {
            session.close().await;
        }
        measured
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
