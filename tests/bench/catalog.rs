//! A catalog of ten thousand tools: how long it takes to start with it, what it weighs, and how fast it is searched.
//! The tools are written to the tables at once, each with a name, a description and a schema of its own.

use std::time::{Duration, Instant};

use proto::{
    registry::v1::{
        GetToolRequest, ListToolsRequest, SearchToolsRequest, ToolStatus, WatchToolsRequest,
        get_tool_request::Key, watch_tools_response::Event,
    },
    selector::v1::SelectToolsRequest,
    types::v1::Category,
};
use serde::Serialize;
use tests::{Client, eventually};
use tonic::Status;

use crate::{
    load::{self, Loop, Measured},
    stage::{AGENT, EFFECTS, Ground, Suite},
    usage::Parties,
};

/// Tools of the team.
pub const TOOLS: i32 = 10_000;
/// The tool that only the whole catalog has.
const LAST: &str = "server_39.delete_zanzibar_9999";
/// Callers at once: one tells what a request takes, eight what it takes while others ask too.
const CALLERS: [usize; 2] = [1, 8];

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Catalog {
    pub rows: Vec<Row>,
    /// From the start of a process until it offers the last tool of the catalog.
    pub start_s: f64,
    /// Of a process with hardly any tool, and with all of them.
    pub empty_mib: f64,
    pub full_mib: f64,
    /// From the request of a watch until the last tool has come.
    pub snapshot_ms: f64,
}

/// One kind of request.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub what: &'static str,
    pub callers: usize,
    pub measured: Measured,
}

impl Catalog {
    /// The slowest 99th percentile of all kinds of request, one at a time.
    pub fn slowest_p99_ms(&self) -> f64 {
        let alone = self.rows.iter().filter(|row| row.callers == 1);
        alone.map(|row| row.measured.p99_ms).fold(0.0, f64::max)
    }
}

/// Measures a toolcrib of its own.
pub async fn measure(ground: &Ground, plan: Loop) -> Catalog {
    let mut suite = Suite::start(ground, "catalog", &["all"], None).await;
    let resident = |suite: &Suite| {
        let ours = suite.processes.iter().map(|process| process.pid).collect();
        Parties { ours, postmaster: ground.postmaster }.resident_mib()
    };
    let empty_mib = resident(&suite);
    fill(&suite).await;
    suite.grant(LAST).await;
    let begun = Instant::now();
    suite.start_again(ground);
    let agent = Client::new(suite.edge).with_key(AGENT, &suite.key);
    eventually("the last tool is offered", async || offers_last(&agent).await.then_some(())).await;
    let start_s = begun.elapsed().as_secs_f64();
    let full_mib = resident(&suite);
    let snapshot_ms = snapshot(&agent).await.as_secs_f64() * 1_000.0;
    Catalog { rows: rows(&agent, plan).await, start_s, empty_mib, full_mib, snapshot_ms }
}

/// Tools as forty servers have them: six verbs, ten nouns, five categories, one capability that few have.
async fn fill(suite: &Suite) {
    let fill = "WITH stamp AS (UPDATE registry.revision SET value = value + 1 RETURNING value),
          said AS (
            SELECT n, 'server_' || n % 40 AS provider,
                   (ARRAY['get','list','create','delete','watch','update'])[1 + n % 6] AS verb,
                   CASE WHEN n = 9999 THEN 'zanzibar' ELSE
                     (ARRAY['pods','issues','users','files','orders','invoices','repos','branches','nodes','alerts'])
                     [1 + n / 6 % 10] END AS noun,
                   (ARRAY['cluster','project','team','folder','shop'])[1 + n % 5] AS place
            FROM generate_series(0, $1 - 1) n),
          made AS (
            SELECT gen_random_uuid() AS id, provider, provider || '.' || verb || '_' || noun || '_' || n AS name,
                   'Takes the ' || noun || ' of a ' || place || ' to ' || verb || ' them, and says what became of each. '
                   || 'Use it when somebody asks for the state or the history of ' || noun || '.' AS description,
                   (ARRAY['api_integration','custom','file_io','data_retrieval','communication'])[1 + n % 5] AS category,
                   CASE WHEN n % 100 = 0 THEN ARRAY['integrate','search'] ELSE ARRAY['integrate'] END AS capabilities
            FROM said),
          versions AS (
            INSERT INTO registry.version (team_id, id, name, version, revision, digest, content_digest, definition)
            SELECT v.team_id, made.id, made.name, '1.0.0', stamp.value, encode(sha256(made.name::bytea), 'hex'),
                   encode(sha256(made.name::bytea), 'hex'),
                   (v.definition::jsonb || jsonb_build_object('name', made.name, 'description', made.description,
                    'category', category, 'capabilities', capabilities, 'provider', provider))::text
            FROM made, stamp, registry.version v WHERE v.name = $2
            RETURNING team_id, id, revision)
        INSERT INTO registry.tool (team_id, name, newest_id, category, capabilities, provider, status, revision, search)
        SELECT versions.team_id, name, id, category, capabilities, provider, 'active', revision,
               registry.search_vector(translate(name, '._', '  '), '', description,
                   array_to_string(capabilities, ' ') || ' text what to give back')
        FROM made JOIN versions USING (id)";
    let pool = suite.database.pool().expect("the database is up");
    sqlx::query(fill).bind(TOOLS).bind(EFFECTS).execute(pool).await.expect("the tools are written");
    sqlx::query("VACUUM (ANALYZE)").execute(pool).await.expect("PostgreSQL looks at its tables");
}

async fn offers_last(agent: &Client) -> bool {
    let task = "delete the history of zanzibar".to_owned();
    let request = SelectToolsRequest { task, ..SelectToolsRequest::default() };
    let answer = agent.selector().select_tools(request).await;
    answer.is_ok_and(|answer| {
        let answer = answer.into_inner();
        answer.primary.iter().chain(&answer.alternatives).any(|tool| format!("{tool:?}").contains(LAST))
    })
}

async fn snapshot(agent: &Client) -> Duration {
    let begun = Instant::now();
    let events = agent.registry().watch_tools(WatchToolsRequest { from_revision: 0 }).await;
    let mut events = events.expect("a watch").into_inner();
    let mut count = 0;
    while let Some(event) = events.message().await.expect("the watch goes on") {
        match event.event {
            Some(Event::Upserted(_)) => count += 1,
            Some(Event::SnapshotEnd(_)) => break,
            _ => {}
        }
    }
    assert!(count > TOOLS, "the snapshot has all tools");
    begun.elapsed()
}

/// What is asked for.
#[derive(Debug, Clone)]
enum Ask {
    List(ListToolsRequest),
    Search(SearchToolsRequest),
    Get(GetToolRequest),
}

impl Ask {
    async fn ask(self, agent: &Client) -> Result<usize, Status> {
        Ok(match self {
            Self::List(request) => agent.registry().list_tools(request).await?.into_inner().tools.len(),
            Self::Search(request) => agent.registry().search_tools(request).await?.into_inner().tools.len(),
            Self::Get(request) => agent.registry().get_tool(request).await.map(|_| 1)?,
        })
    }
}

async fn rows(agent: &Client, plan: Loop) -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, ask) in asks(agent).await {
        let found = ask.clone().ask(agent).await.expect("an answer");
        assert!(found > 0, "{what} finds something");
        for callers in CALLERS {
            let asker = |_| {
                let (agent, ask) = (agent.clone(), ask.clone());
                move || {
                    let (agent, ask) = (agent.clone(), ask.clone());
                    async move { ask.ask(&agent).await.map(|_| ()).map_err(|status| format!("{status:?}")) }
                }
            };
            let measured = load::run(Loop { callers, ..plan }, asker, || (), || ()).await;
            rows.push(Row { what, callers, measured });
        }
    }
    rows
}

async fn asks(agent: &Client) -> Vec<(&'static str, Ask)> {
    let list = |edit: fn(&mut ListToolsRequest)| {
        let mut request = ListToolsRequest::default();
        edit(&mut request);
        Ask::List(request)
    };
    let search = |edit: fn(&mut SearchToolsRequest)| {
        let mut request = SearchToolsRequest::default();
        edit(&mut request);
        Ask::Search(request)
    };
    let late = ListToolsRequest { page_token: last_token(agent).await, ..ListToolsRequest::default() };
    vec![
        (
            "GetTool by name",
            Ask::Get(GetToolRequest { key: Some(Key::Name(LAST.into())), version: String::new() }),
        ),
        ("ListTools", list(|_| ())),
        ("ListTools, a late page", Ask::List(late)),
        ("ListTools by category", list(|r| r.category = Category::FileIo.into())),
        ("ListTools by capability", list(|r| r.capability = "search".into())),
        ("ListTools by status", list(|r| r.status = ToolStatus::Active.into())),
        ("ListTools by provider", list(|r| r.provider = "server_7".into())),
        ("SearchTools, part of the name", search(|r| r.name = "users_99".into())),
        ("SearchTools, a word that one has", search(|r| r.text = "zanzibar".into())),
        ("SearchTools, two words", search(|r| r.text = "list invoices".into())),
        (
            "SearchTools, three words and a provider",
            search(|r| {
                (r.text, r.provider) = ("history of orders".into(), "server_7".into());
            }),
        ),
        ("SearchTools, a word that all have", search(|r| r.text = "history".into())),
        ("SearchTools, words that none has together", search(|r| r.text = "zanzibar invoices".into())),
    ]
}

/// The token of the last page.
async fn last_token(agent: &Client) -> String {
    let mut request = ListToolsRequest { page_size: 1_000, ..ListToolsRequest::default() };
    loop {
        let page = agent.registry().list_tools(request.clone()).await.expect("a page").into_inner();
        if page.next_page_token.is_empty() {
            return request.page_token;
        }
        request.page_token = page.next_page_token;
    }
}
