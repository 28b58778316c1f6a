//! The commands about settings and fallbacks, against a registry that keeps one tool's.

use proto::registry::v1::{
    GetFallbacksRequest, GetFallbacksResponse, GetToolRequest, GetToolResponse, ResolvedFallback,
    SetFallbacksRequest, SetFallbacksResponse, Tool, ToolDefinition, ToolSettings, ToolStatus,
    UpdateToolRequest, UpdateToolResponse,
    registry_service_server::{RegistryService, RegistryServiceServer},
};

use super::*;

/// The one tool, and the last change that was asked for.
#[derive(Clone, Default)]
struct Catalog(Arc<Mutex<(Tool, UpdateToolRequest)>>);

impl Catalog {
    fn tool(&self) -> Tool {
        self.0.lock().unwrap().0.clone()
    }

    fn asked(&self) -> UpdateToolRequest {
        self.0.lock().unwrap().1.clone()
    }

    fn keep(&self, settings: ToolSettings) -> Tool {
        let mut kept = self.0.lock().unwrap();
        kept.0.settings = Some(settings);
        kept.0.etag.push('1');
        kept.0.clone()
    }

    fn refuse_stale(&self, etag: &str) -> Result<(), Status> {
        if etag.is_empty() || etag == self.tool().etag {
            return Ok(());
        }
        Err(rpc::status_with_reason(Kind::Precondition, ErrorReason::EtagMismatch, "the settings changed"))
    }
}

#[tonic::async_trait]
impl RegistryService for Catalog {
    async fn get_tool(&self, _: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        Ok(Response::new(GetToolResponse { tool: Some(self.tool()) }))
    }

    async fn update_tool(
        &self,
        request: Request<UpdateToolRequest>,
    ) -> Result<Response<UpdateToolResponse>, Status> {
        let request = request.into_inner();
        self.refuse_stale(&request.etag)?;
        self.0.lock().unwrap().1 = request.clone();
        let mut settings = self.tool().settings.unwrap();
        settings.retry.as_mut().unwrap().max_retries = request.settings.unwrap().retry.unwrap().max_retries;
        Ok(Response::new(UpdateToolResponse { tool: Some(self.keep(settings)) }))
    }

    async fn set_fallbacks(
        &self,
        request: Request<SetFallbacksRequest>,
    ) -> Result<Response<SetFallbacksResponse>, Status> {
        let SetFallbacksRequest { fallbacks, etag, .. } = request.into_inner();
        assert!(!etag.is_empty(), "a change rests on what was read");
        self.refuse_stale(&etag)?;
        let settings = ToolSettings { fallbacks, ..self.tool().settings.unwrap() };
        Ok(Response::new(SetFallbacksResponse { tool: Some(self.keep(settings)) }))
    }

    async fn get_fallbacks(
        &self,
        _: Request<GetFallbacksRequest>,
    ) -> Result<Response<GetFallbacksResponse>, Status> {
        let Tool { settings, etag, .. } = self.tool();
        let status = ToolStatus::Active as i32;
        let resolved = |fallback| ResolvedFallback { fallback: Some(fallback), status };
        let fallbacks = settings.unwrap().fallbacks.into_iter().map(resolved).collect();
        Ok(Response::new(GetFallbacksResponse { fallbacks, etag }))
    }
}

/// Serves a catalog on a free port until the test's runtime ends.
async fn catalog() -> (String, Catalog) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let catalog = Catalog::default();
    catalog.0.lock().unwrap().0 = Tool {
        definition: Some(ToolDefinition { name: "t".into(), ..ToolDefinition::default() }),
        settings: Some(registry::default_settings()),
        etag: "1".into(),
        ..Tool::default()
    };
    let server = Server::builder()
        .add_service(RegistryServiceServer::new(catalog.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (address, catalog)
}

#[tokio::test]
async fn settings_are_set_by_name_and_only_those_that_are_named() {
    let (address, catalog) = catalog().await;
    let words = ["tools", "set", "t", "retry.max_retries=5", "cache=default", "--etag", "1"];
    let done = run(&address, &words).await;
    assert_eq!(done.exit_code(), 0, "{}", done.message());
    let asked = catalog.asked();
    assert_eq!(asked.update_mask.unwrap().paths, ["retry.max_retries", "cache"]);
    let given = asked.settings.unwrap();
    assert_eq!((given.retry.unwrap().max_retries, given.cache), (Some(5), None));
    assert!(done.out.contains("retry.max_retries  ") && done.out.contains("* 3"), "{}", done.out);
    assert!(done.out.contains("cache.ttl_s") && !done.out.contains("retry.jitter"), "{}", done.out);

    let stale = run(&address, &words).await;
    assert_eq!((stale.exit_code(), stale.message().as_str()), (2, "the settings changed"));
    let before = catalog.tool();
    let wrong = run(&address, &["tools", "set", "t", "max_retrys=5"]).await;
    assert_eq!(wrong.exit_code(), 2);
    assert!(wrong.message().contains("did you mean retry.max_retries?"), "{}", wrong.message());
    assert_eq!(catalog.tool(), before, "nothing was sent");

    let shown = run(&address, &["tools", "settings", "t"]).await;
    assert!(
        shown.out.contains("circuit_breaker.probes") && shown.out.ends_with("etag 11\n"),
        "{}",
        shown.out
    );
    let json = run(&address, &["tools", "settings", "t", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&json["retry"]["max_retries"], &json["output_mode"]),
        (&5.into(), &"OUTPUT_MODE_STRICT".into())
    );
}

#[tokio::test]
async fn fallbacks_are_added_shown_and_cleared() {
    let (address, catalog) = catalog().await;
    let none = run(&address, &["tools", "fallbacks", "t"]).await;
    assert!(none.out.contains("--add TOOL"), "{}", none.out);
    let add = |rest: &[&'static str]| [&["tools", "fallbacks", "t", "--add"], rest].concat();
    run(&address, &add(&["a"])).await;
    let words =
        add(&["b", "--on", "timeout,rate_limit", "--arguments", "{'q': arguments.q}", "--priority", "-2"]);
    let done = run(&address, &words).await;
    assert_eq!(done.exit_code(), 0, "{}", done.message());
    for part in ["timeout, rate_limit", "{'q': arguments.q}", "-2", "active", "any"] {
        assert!(done.out.contains(part), "{part} in {}", done.out);
    }
    let kept = catalog.tool().settings.unwrap().fallbacks;
    assert_eq!((kept[0].tool.as_str(), kept[1].conditions.as_slice()), ("a", [1, 2].as_slice()));
    let json = run(&address, &["tools", "fallbacks", "t", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["fallbacks"][1]["fallback"]["conditions"][0], "FALLBACK_CONDITION_TIMEOUT");
    run(&address, &["tools", "fallbacks", "t", "--clear"]).await;
    assert_eq!(catalog.tool().settings.unwrap().fallbacks, []);
}
