//! The tools that toolcrib itself implements. Their definitions are the registry's seed; the names here
//! must be those of their bindings.

mod certificate;
mod echo;
pub(crate) mod files;
mod glob;
mod http_request;
mod list_files;
mod path;
mod ping;
mod python;
mod read_file;
mod search;
mod sources;
mod system_status;

use std::path::PathBuf;

use crate::{
    Config,
    config::WebSearchConfig,
    drivers::{HttpClient, Job},
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// Every built-in tool.
pub(crate) struct Builtins {
    python: python::Python,
    workspace_root: PathBuf,
    http: HttpClient,
    remote: sources::Remote,
    allow_private_network: bool,
    web_search: WebSearchConfig,
}

impl Builtins {
    pub(crate) fn new(config: &Config, http: HttpClient) -> Self {
        Self {
            python: python::Python::new(&config.sandbox),
            workspace_root: config.workspace_root.clone(),
            remote: sources::Remote::new(http.clone(), config),
            http,
            allow_private_network: config.http.allow_private_network,
            web_search: config.web_search.clone(),
        }
    }

    pub(crate) async fn run(&self, name: &str, job: &Job<'_>) -> Ended {
        match name {
            "python_sandbox" => self.python.run_program(job, self.workspace(job.team, job.task_id)).await,
            "pandas_analyzer" => self.python.analyze(job, self.workspace(job.team, job.task_id)).await,
            "file_operations" => {
                files::run(self.workspace(job.team, job.task_id), job.arguments.clone()).await
            }
            "echo" => Ok(echo::run(job)),
            "http_request" => http_request::run(&self.http, self.allow_private_network, job).await,
            "brave_web_search" => search::brave(&self.http, &self.web_search, job).await,
            "google_web_search" => search::google(&self.http, &self.web_search, job).await,
            "read_file" => read_file::run(&self.remote, self.workspace(job.team, job.task_id), job).await,
            "list_files" => list_files::run(&self.remote, self.workspace(job.team, job.task_id), job).await,
            "ping_server" => ping::run(&self.http, self.allow_private_network, job).await,
            "system_status" => system_status::run(&self.workspace_root, job).await,
            "code_analysis" => self.python.analyze_code(job, self.workspace(job.team, job.task_id)).await,
            other => {
                let message = format!("this version has no built-in tool {other}");
                Err(ToolError::new(ToolErrorCode::NotConfigured, message))
            }
        }
    }

    pub(crate) async fn warm_up(&self) {
        self.python.warm_up().await;
    }

    pub(crate) async fn close(&self) {
        self.python.close().await;
    }

    /// The folder of this team and task. Both are checked words: no separator, not `.` or `..`.
    pub(crate) fn workspace(&self, team: &str, task_id: &str) -> PathBuf {
        let task = if task_id.is_empty() { "default" } else { task_id };
        self.workspace_root.join(team).join(task)
    }
}

/// An argument that is text; the input schema has said so.
fn text<'a>(arguments: &'a serde_json::Value, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(serde_json::Value::as_str)
}
