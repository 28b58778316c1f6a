//! What `toolcrib call` and `toolcrib start` have in common: a tool, its arguments, and how it is to be run.
//!
//! Nothing is checked here but what it takes to write the request: the executor does that.

use clap::Args;
use proto::{
    executor::v1::{CallOptions, ExecuteRequest, execute_request},
    registry::v1::Degradation,
};
use serde_json::Value;

use super::{
    arguments::{self, Piece},
    client::Client,
    error::Error,
    files, tools,
    words::parser,
};

/// One call as it is written on the command line.
#[derive(Debug, Args)]
pub struct Invocation {
    /// Name of the tool, or id of one version
    tool: String,
    /// key=value typed by the tool's schema, key:=json, key=@file, or a whole object from @file or @-
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// The arguments as one JSON object; key=value adds to it
    #[arg(long, value_name = "OBJECT")]
    json: Option<String>,
    /// The same id and arguments get the first answer again instead of a second run
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// The task that the call belongs to
    #[arg(long, value_name = "TASK_ID")]
    task: Option<String>,
    /// The selection that the call follows
    #[arg(long, value_name = "ID")]
    selection: Option<String>,
    /// Why the call is needed, for those who approve it where it needs an approval
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Shortens the tool's own timeout
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(1..))]
    timeout_ms: Option<i64>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Overrides of the tool's settings, for this call.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Instead of the tool's settings")]
struct Overrides {
    /// Attempts after the first, at most as many as the settings say
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=10))]
    retries: Option<i32>,
    /// Take no answer of the cache; the new one is kept all the same
    #[arg(long)]
    no_cache: bool,
    /// Oldest answer of the cache that is taken
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "no_cache")]
    max_age: Option<i64>,
    /// Let no other tool stand in
    #[arg(long)]
    no_fallbacks: bool,
    /// What is answered when the tool fails
    #[arg(long, value_name = "HOW", value_parser = parser::<Degradation>())]
    on_failure: Option<Degradation>,
}

impl Overrides {
    /// `None` where nothing is overridden.
    fn options(&self) -> Option<CallOptions> {
        let options = CallOptions {
            max_retries: self.retries,
            skip_cache: self.no_cache,
            max_age_s: self.max_age.unwrap_or_default(),
            no_fallbacks: self.no_fallbacks,
            degradation: self.on_failure.unwrap_or_default() as i32,
        };
        (options != CallOptions::default()).then_some(options)
    }
}

impl Invocation {
    /// The request; asks for the tool's schema where it takes one to read the arguments.
    pub async fn request(self, client: &Client) -> Result<ExecuteRequest, Error> {
        let arguments_json = self.arguments_json(client).await?;
        Ok(ExecuteRequest {
            options: self.overrides.options(),
            tool: self.tool,
            input: Some(execute_request::Input::ArgumentsJson(arguments_json)),
            request_id: self.request_id.unwrap_or_default(),
            task_id: self.task.unwrap_or_default(),
            timeout_ms: self.timeout_ms.unwrap_or_default(),
            selection_id: self.selection.unwrap_or_default(),
            justification: self.why.unwrap_or_default(),
        })
    }

    async fn arguments_json(&self, client: &Client) -> Result<String, Error> {
        arguments_json(&self.tool, self.json.as_ref(), &self.arguments, client).await
    }
}

/// The arguments as JSON text of one object; asks for the tool's schema where it takes one to read them.
pub async fn arguments_json(
    tool: &str,
    json: Option<&String>,
    words: &[String],
    client: &Client,
) -> Result<String, Error> {
    let mut pieces: Vec<Piece> = json.into_iter().cloned().map(Piece::Whole).collect();
    for word in words {
        pieces.push(arguments::piece(word, &mut files::read).map_err(Error::Usage)?);
    }
    let mut schema = Value::Null;
    if arguments::need_schema(&pieces) {
        let definition = tools::get(tool, None, client).await?.definition.unwrap_or_default();
        schema = serde_json::from_str(&definition.input_schema_json).unwrap_or_default();
    }
    arguments::object(&pieces, &schema).map_err(Error::Usage)
}
