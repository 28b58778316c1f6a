//! `python_sandbox`, `pandas_analyzer` and `code_analysis`: programs in the sandbox, one the caller's, two ours.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use sandbox::{Config, Exit, Limits, Output, Sandbox, Stream};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc};

use crate::{
    config::SandboxConfig,
    drivers::Job,
    outcome::{Ended, ToolError, ToolErrorCode},
    progress::Sink,
};

/// The program behind `pandas_analyzer`.
const ANALYZER: &str = include_str!("pandas_analyzer.py");
/// The program behind `code_analysis`.
const CODE_ANALYSIS: &str = include_str!("code_analysis.py");
/// Seconds that a program has when it does not say.
const DEFAULT_TIMEOUT_S: u64 = 30;
/// What a program's limit leaves for the call around it, at most, so that the program's own limit strikes first.
const MARGIN: Duration = Duration::from_millis(500);

/// The sandbox, started when first needed or warmed up.
pub(crate) struct Python {
    config: SandboxConfig,
    sandbox: Arc<OnceCell<Sandbox>>,
}

impl Python {
    pub(crate) fn new(config: &SandboxConfig) -> Self {
        Self { config: config.clone(), sandbox: Arc::default() }
    }

    /// Runs the caller's program.
    pub(crate) async fn run_program(&self, job: &Job<'_>, workspace: PathBuf) -> Ended {
        let code = super::text(job.arguments, "code").unwrap_or_default().to_owned();
        let input = job.arguments.get("arguments").cloned().unwrap_or_else(|| json!({}));
        let seconds = job.arguments.get("timeout_s").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT_S);
        let output = self.run(code, input, workspace, job, Duration::from_secs(seconds)).await?;
        let report = report(&output).to_string();
        match failure(&output) {
            None => Ok(report),
            Some(error) => Err(ToolError { partial_json: Some(report), ..error }),
        }
    }

    /// Runs the analyzer of tables on the caller's arguments.
    pub(crate) async fn analyze(&self, job: &Job<'_>, workspace: PathBuf) -> Ended {
        self.run_own(ANALYZER, job, workspace).await
    }

    /// Runs the analyzers of source on the caller's arguments.
    pub(crate) async fn analyze_code(&self, job: &Job<'_>, workspace: PathBuf) -> Ended {
        self.run_own(CODE_ANALYSIS, job, workspace).await
    }

    /// Runs a program of ours, whose errors are about the arguments.
    async fn run_own(&self, program: &str, job: &Job<'_>, workspace: PathBuf) -> Ended {
        let output = self.run(program.to_owned(), job.arguments.clone(), workspace, job, job.timeout).await?;
        if let Some(mut error) = failure(&output) {
            if let Exit::Raised { message, .. } = &output.exit {
                error.message.clone_from(message);
            }
            return Err(error);
        }
        let missing = || ToolError::new(ToolErrorCode::InvalidResult, "the analyzer gave no result");
        output.result.map(|result| result.to_string()).ok_or_else(missing)
    }

    pub(crate) async fn warm_up(&self) {
        if let Err(error) = self.sandbox().await {
            tracing::warn!(%error, "the Python sandbox cannot run; its tools answer NOT_CONFIGURED");
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(sandbox) = self.sandbox.get() {
            sandbox.shutdown().await;
        }
    }

    async fn sandbox(&self) -> Result<&Sandbox, sandbox::Error> {
        let start = || {
            let mut config = Config::new(&self.config.python, &self.config.work_root);
            config.jobs = self.config.max_concurrent;
            Sandbox::start(config)
        };
        self.sandbox.get_or_try_init(start).await
    }

    async fn run(
        &self,
        source: String,
        input: Value,
        workspace: PathBuf,
        job: &Job<'_>,
        wall: Duration,
    ) -> Result<Output, ToolError> {
        let not_configured =
            |error: sandbox::Error| ToolError::new(ToolErrorCode::NotConfigured, error.to_string());
        let sandbox = self.sandbox().await.map_err(not_configured)?;
        let limits = Limits {
            wall: wall.min(job.timeout.saturating_sub(MARGIN.min(job.timeout / 4))),
            memory_bytes: self.config.memory_bytes,
            ..Limits::default()
        };
        let readable = existing(&workspace);
        let program = sandbox::Job { source, input, readable, limits };
        told(sandbox, program, job.progress)
            .await
            .map_err(|error| ToolError::new(ToolErrorCode::ToolFailed, error.to_string()))
    }
}

/// Runs a program and tells what it prints while it runs.
async fn told(sandbox: &Sandbox, program: sandbox::Job, progress: &Sink) -> Result<Output, sandbox::Error> {
    // At most 1,000 lines come: the sandbox sees to that.
    let (lines, mut heard) = mpsc::unbounded_channel();
    let tell = |(stream, line): (Stream, String)| progress.log("info", name(stream), &line);
    let running = sandbox.run_with(program, move |stream, line| {
        let _ = lines.send((stream, line.to_owned()));
    });
    let mut running = pin!(running);
    let ended = loop {
        tokio::select! {
            biased;
            Some(line) = heard.recv() => tell(line),
            ended = &mut running => break ended,
        }
    };
    while let Ok(line) = heard.try_recv() {
        tell(line);
    }
    ended
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// A workspace that nobody wrote to yet does not exist.
fn existing(workspace: &Path) -> Vec<PathBuf> {
    if workspace.is_dir() { vec![workspace.to_owned()] } else { Vec::new() }
}

fn report(output: &Output) -> Value {
    let exit_code = match &output.exit {
        Exit::Ok => 0,
        Exit::ExitCode(code) => *code & 0xff,
        Exit::Raised { .. }
        | Exit::Denied { .. }
        | Exit::TimedOut
        | Exit::OutOfMemory
        | Exit::DiskFull { .. }
        | Exit::Killed { .. } => 1,
    };
    let mut report = json!({
        "stdout": output.stdout,
        "stderr": output.stderr,
        "exit_code": exit_code,
        "stdout_truncated": output.stdout_truncated,
        "duration_ms": u64::try_from(output.wall.as_millis()).unwrap_or(u64::MAX),
        "max_rss_bytes": output.max_rss_bytes,
    });
    if let Some(result) = &output.result {
        report["result"] = result.clone();
    }
    report
}

/// Why the program did not end well.
fn failure(output: &Output) -> Option<ToolError> {
    let (code, message) = match &output.exit {
        Exit::Ok => return None,
        Exit::Raised { kind, message } => {
            (ToolErrorCode::ToolFailed, format!("the program raised {kind}: {message}"))
        }
        Exit::ExitCode(code) => {
            (ToolErrorCode::ToolFailed, format!("the program ended with exit code {code}"))
        }
        Exit::Denied { what } => (ToolErrorCode::SandboxDenied, format!("the sandbox refused: {what}")),
        Exit::TimedOut => {
            (ToolErrorCode::Timeout, format!("the program was killed after {} ms", output.wall.as_millis()))
        }
        Exit::OutOfMemory => {
            (ToolErrorCode::OutOfMemory, "the program wanted more memory than it may have".into())
        }
        Exit::DiskFull { what } => (
            ToolErrorCode::SandboxDenied,
            format!("the program was killed for what it keeps on disk: {what}"),
        ),
        Exit::Killed { signal } => {
            (ToolErrorCode::ToolFailed, format!("the program was ended by signal {signal}"))
        }
    };
    Some(ToolError::new(code, message))
}
