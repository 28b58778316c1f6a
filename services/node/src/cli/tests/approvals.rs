//! Approval of all that waits of a server, against a registry that keeps a few tools.

use proto::registry::v1::{
    ApproveDefinitionRequest, ApproveDefinitionResponse, ChangeKind, DefinitionChange, ListServersRequest,
    ListServersResponse, ListToolsRequest, ListToolsResponse, Server as McpServer, Tool, ToolDefinition,
    registry_service_server::{RegistryService, RegistryServiceServer},
};

use super::*;

/// What waits: server, name, digest, and a value that changed.
type Waiting = Vec<(&'static str, &'static str, String, &'static str)>;

#[derive(Default)]
struct Book {
    waiting: Waiting,
    decisions: Vec<ApproveDefinitionRequest>,
    /// The tool whose definition changes once it was looked at.
    restless: &'static str,
}

#[derive(Clone, Default)]
struct Catalog(Arc<Mutex<Book>>);

impl Catalog {
    fn decided(&self) -> Vec<(String, String)> {
        let book = self.0.lock().unwrap();
        book.decisions.iter().map(|asked| (asked.name.clone(), asked.digest.clone())).collect()
    }
}

fn tool(server: &str, name: &str, version: &str, digest: &str) -> Tool {
    let definition =
        ToolDefinition { name: name.into(), version: version.into(), ..ToolDefinition::default() };
    let (id, digest, server) = (version.to_owned(), digest.to_owned(), server.to_owned());
    Tool { id, digest, server, definition: Some(definition), ..Tool::default() }
}

#[tonic::async_trait]
impl RegistryService for Catalog {
    async fn list_tools(
        &self,
        request: Request<ListToolsRequest>,
    ) -> Result<Response<ListToolsResponse>, Status> {
        let asked = request.into_inner();
        assert!(asked.pending && !asked.provider.is_empty());
        let book = self.0.lock().unwrap();
        let each = book.waiting.iter().map(|(server, name, digest, _)| tool(server, name, "1.0.0", digest));
        Ok(Response::new(ListToolsResponse { tools: each.collect(), next_page_token: String::new() }))
    }

    async fn list_servers(
        &self,
        _: Request<ListServersRequest>,
    ) -> Result<Response<ListServersResponse>, Status> {
        let servers = vec![McpServer { name: "idle".into(), ..McpServer::default() }];
        Ok(Response::new(ListServersResponse { servers }))
    }

    async fn approve_definition(
        &self,
        request: Request<ApproveDefinitionRequest>,
    ) -> Result<Response<ApproveDefinitionResponse>, Status> {
        let asked = request.into_inner();
        let mut book = self.0.lock().unwrap();
        let restless = book.restless;
        let found = book.waiting.iter_mut().find(|(_, name, ..)| *name == asked.name).unwrap();
        let (server, name, digest, value) = found.clone();
        if asked.digest.is_empty() && name == restless {
            found.2.push('x');
        }
        if !asked.digest.is_empty() {
            if asked.digest != digest {
                return Err(rpc::status_with_reason(
                    Kind::Precondition,
                    ErrorReason::DigestMismatch,
                    "it changed",
                ));
            }
            book.decisions.push(asked.clone());
        }
        let change = DefinitionChange {
            kind: ChangeKind::Patch.into(),
            path: "/description".into(),
            description: "the description is another".into(),
            before_json: "\"Old.\"".into(),
            after_json: value.into(),
        };
        let is_approved = !asked.digest.is_empty() && !asked.reject;
        Ok(Response::new(ApproveDefinitionResponse {
            tool: Some(tool(server, name, if is_approved { "1.0.1" } else { "1.0.0" }, &digest)),
            pending: Some(tool(server, name, "1.0.1", &digest)),
            changes: vec![change],
            decided: !asked.digest.is_empty(),
        }))
    }
}

/// Serves a catalog on a free port until the test's runtime ends.
async fn catalog(restless: &'static str) -> (String, Catalog) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let catalog = Catalog::default();
    let waits = |server, name, digest: &str| (server, name, digest.to_owned(), "\"New.\"");
    *catalog.0.lock().unwrap() = Book {
        waiting: vec![
            waits("srv", "srv.a", "d1"),
            waits("srv", "srv.b", "d2"),
            waits("other", "srv.d", "d4"),
            waits("srv", "srv.c", "d3"),
        ],
        restless,
        ..Book::default()
    };
    let server = Server::builder()
        .add_service(RegistryServiceServer::new(catalog.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, catalog)
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
}

#[tokio::test]
async fn all_that_waits_of_a_server_is_shown_and_then_approved_by_what_was_shown() {
    let (address, catalog) = catalog("").await;
    let done = run(&address, &["tools", "approve", "--server", "srv", "--note", "seen"]).await;
    assert_eq!(done.exit_code(), 0, "{}", done.message());
    assert_eq!(catalog.decided(), pairs(&[("srv.a", "d1"), ("srv.b", "d2"), ("srv.c", "d3")]));
    assert!(catalog.0.lock().unwrap().decisions.iter().all(|it| it.note == "seen" && !it.reject));
    let place = |says: &str| done.out.find(says).unwrap_or_else(|| panic!("{says} in {}", done.out));
    let order = [
        "srv.a 1.0.0 serves, and 1.0.1 waits",
        "+ \"New.\"",
        "digest d1",
        "srv.c 1.0.0 serves",
        "digest d3",
        "srv.a 1.0.1 is approved",
        "srv.b 1.0.1 is approved",
        "srv.c 1.0.1 is approved",
    ];
    assert!(order.map(place).is_sorted(), "{}", done.out);
    assert!(!done.out.contains("srv.d") && !done.out.contains("--digest"), "{}", done.out);

    let words = ["tools", "approve", "--server", "srv", "--reject", "-o", "json"];
    let json: serde_json::Value = serde_json::from_str(&run(&address, &words).await.out).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[2]["decided"]), (3, &true.into()));
    assert_eq!(json[0]["pending"]["definition"]["name"], "srv.a");
    assert!(catalog.0.lock().unwrap().decisions[3].reject);
}

#[tokio::test]
async fn one_that_changed_in_between_ends_it_and_what_was_approved_is_told() {
    let (address, catalog) = catalog("srv.b").await;
    let done = run(&address, &["tools", "approve", "--server", "srv"]).await;
    assert_eq!((done.exit_code(), done.message().as_str()), (2, "it changed"));
    assert!(done.out.contains("digest d2\n") && !done.out.contains("d2x"), "{}", done.out);
    assert_eq!(done.err, "1 of 3 approved: srv.a; the others wait\n");
    assert_eq!(catalog.decided(), pairs(&[("srv.a", "d1")]));
    let first = self::catalog("srv.a").await;
    let done = run(&first.0, &["tools", "approve", "--server", "srv", "-o", "json"]).await;
    assert_eq!((done.exit_code(), done.out.trim()), (2, "[]"));
    assert_eq!(done.err, "0 of 3 approved: none; the others wait\n");
}

#[tokio::test]
async fn what_cannot_be_shown_whole_is_approved_with_no_other() {
    let (address, catalog) = catalog("").await;
    catalog.0.lock().unwrap().waiting[1].3 = "\"New…";
    let done = run(&address, &["tools", "approve", "--server", "srv"]).await;
    assert_eq!(done.exit_code(), 2);
    assert!(done.message().contains("toolcrib tools diff srv.b"), "{}", done.message());
    assert!(done.out.contains("NOT ALL"), "{}", done.out);
    assert_eq!(catalog.decided(), []);
}

#[tokio::test]
async fn a_server_is_named_instead_of_a_tool_and_one_that_is_not_there_is_told() {
    let (address, catalog) = catalog("").await;
    let idle = run(&address, &["tools", "approve", "--server", "idle"]).await;
    assert_eq!((idle.exit_code(), idle.out.as_str()), (0, "nothing of idle waits for approval\n"));
    let none = run(&address, &["tools", "approve", "--server", "srw"]).await;
    assert_eq!(none.exit_code(), 2);
    assert!(none.message().contains("no MCP server srw"), "{}", none.message());
    assert_eq!(catalog.decided(), []);
    for words in [
        &["tools", "approve"][..],
        &["tools", "approve", "srv.a"],
        &["tools", "approve", "--digest", "d1"],
        &["tools", "approve", "srv.a", "--server", "srv"],
        &["tools", "approve", "--digest", "d1", "--server", "srv"],
    ] {
        let words = [&["toolcrib"], words].concat();
        assert!(help::command().try_get_matches_from(words.clone()).is_err(), "{words:?}");
    }
}
