//! Tools are found and given to model APIs, as an agent asks through the edge.

use proto::registry::v1::{
    ExportFormat, ExportToolsRequest, RegisterToolRequest, SearchToolsRequest, SetToolStatusRequest,
    ToolStatus,
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{HttpTool, Suite, Upstream, eventually, refused};
use tonic::Code;

tests::scenarios! {
    what_is_registered_is_found_and_exported_to_who_may_call_it,
    a_schema_that_points_elsewhere_is_refused_with_its_place_and_nobody_is_asked,
}

async fn what_is_registered_is_found_and_exported_to_who_may_call_it(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("fleet.locate_lorry", upstream.url("/echo"));
    "Tells where a lorry is now.".clone_into(&mut tool.definition.description);
    let agent = suite.agent_with(tool).await;
    suite.register(HttpTool::new("fleet.scrap_lorry", upstream.url("/echo"))).await;
    let search =
        SearchToolsRequest { text: "where are the lorries".to_owned(), ..SearchToolsRequest::default() };
    let found = agent.registry().search_tools(search).await.unwrap().into_inner().tools;
    let names: Vec<_> = found.into_iter().map(|found| found.tool.unwrap().definition.unwrap().name).collect();
    assert_eq!(names.first().map(String::as_str), Some("fleet.locate_lorry"), "{names:?}");

    let export = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = ExportToolsRequest { format: ExportFormat::Openai.into(), names, ..Default::default() };
        async { agent.registry().export_tools(request).await.unwrap().into_inner() }
    };
    let answer = export(&[]).await;
    let tools: Value = serde_json::from_str(&answer.tools_json).unwrap();
    assert_eq!(tools.as_array().unwrap().len(), 1, "{tools}");
    let function = &tools[0]["function"];
    assert_eq!((&tools[0]["type"], &function["name"]), (&json!("function"), &json!("fleet__locate_lorry")));
    // The name that was given leads to a call that succeeds.
    assert_eq!(answer.tools[0].exported_name, "fleet__locate_lorry");
    agent.call(&answer.tools[0].name, json!({})).await;

    let answer = export(&["fleet.locate_lorry", "fleet.scrap_lorry", "fleet.none"]).await;
    assert_eq!(answer.tools.len(), 1);
    let skipped: Vec<_> =
        answer.skipped.iter().map(|tool| (tool.name.as_str(), tool.reason.as_str())).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped.iter().any(|(name, reason)| *name == "fleet.scrap_lorry" && reason.contains("NO_GRANT")));
    let off = SetToolStatusRequest { name: "fleet.locate_lorry".into(), status: ToolStatus::Disabled.into() };
    suite.admin.registry().set_tool_status(off).await.unwrap();
    eventually("it is not given any more", async || export(&[]).await.tools.is_empty().then_some(())).await;
}

async fn a_schema_that_points_elsewhere_is_refused_with_its_place_and_nobody_is_asked(suite: &Suite) {
    let upstream = Upstream::start().await;
    for (schema, place) in [
        (
            json!({"type": "object", "properties": {"a": {"$ref": upstream.url("/s.json")}}}),
            "/properties/a/$ref",
        ),
        (json!({"type": "object", "properties": {"a": {"minLength": "1"}}}), "/properties/a/minLength"),
    ] {
        let mut tool = HttpTool::new("pointing", upstream.url("/echo"));
        tool.definition.input_schema_json = schema.to_string();
        let request = RegisterToolRequest { definition: Some(tool.into()), ..RegisterToolRequest::default() };
        let answer = suite.admin.registry().register_tool(request).await;
        let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidRequest);
        let violation = &refusal.details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "definition.input_schema_json");
        assert!(violation.description.contains(place), "{}", violation.description);
    }
    assert_eq!(upstream.connections(), 0);
}
