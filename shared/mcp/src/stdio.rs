//! A server that is a child process: started with a clean environment in a process group of its own, and
//! killed with all its descendants when its transport ends, however it ends. Must never let a variable of
//! ours through, nor wait without end for a child that does not read.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio as Pipe;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport as RmcpTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::evidence::{Evidence, MAX_MESSAGE_BYTES};
use crate::lines::Lines;

/// Variables of ours a child may see: what finding programs and writing text needs.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// A message a child does not take within this time will never be taken: it is then killed, so that unsent
/// messages cannot pile up.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How long a child may take to end after its input was closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// How long to wait for exit status and last words once a child closed its output.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A child process and the MCP messages on its pipes.
pub(crate) struct Stdio {
    messages: AsyncRwTransport<RoleClient, Lines<ChildStdout>, ChildStdin>,
    child: Child,
    ended: bool,
    group: Arc<Group>,
    stderr: Option<JoinHandle<()>>,
    evidence: Arc<Evidence>,
}

impl Stdio {
    /// Starts the program. Fails where it cannot be executed at all.
    pub(crate) fn spawn(
        command: &str,
        args: &[String],
        env: &BTreeMap<String, String>,
        evidence: Arc<Evidence>,
    ) -> io::Result<Self> {
        let mut child = clean(Command::new(command), env).args(args).spawn()?;
        let group = Arc::new(Group::of(&child)?);
        let missing = || io::Error::other("a pipe to the process is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let lines = Lines::new(stdout, MAX_MESSAGE_BYTES, evidence.clone());
        Ok(Self {
            messages: AsyncRwTransport::new_client(lines, stdin).with_max_line_length(MAX_MESSAGE_BYTES + 2),
            child,
            ended: false,
            group,
            stderr: Some(tokio::spawn(keep_end(stderr, evidence.clone()))),
            evidence,
        })
    }

    /// The next message; `None` once the output ended, or the child did and what it wrote is read. The
    /// latter counts because a descendant can hold the output open for ever.
    async fn next_message(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        if !self.ended {
            tokio::select! {
                biased;
                message = self.messages.receive() => return message,
                _ = self.child.wait() => self.ended = true,
            }
        }
        timeout(LAST_WORDS, self.messages.receive()).await.ok().flatten()
    }

    /// Notes how the child ended, for the error that follows.
    async fn note_ending(&mut self) {
        if let Ok(Ok(status)) = timeout(LAST_WORDS, self.child.wait()).await {
            self.evidence.exited(status);
        }
        if let Some(stderr) = &mut self.stderr {
            let _ = timeout(LAST_WORDS, &mut *stderr).await;
            stderr.abort();
        }
        self.stderr = None;
    }

    /// Waits for the child to end by itself; true where it did.
    async fn ends(&mut self) -> bool {
        timeout(GRACE, self.child.wait()).await.is_ok()
    }
}

/// Clean environment, own process group, pipes.
fn clean(mut command: Command, env: &BTreeMap<String, String>) -> Command {
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(env).process_group(0).kill_on_drop(true);
    command.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::piped());
    command
}

async fn keep_end(mut stderr: ChildStderr, evidence: Arc<Evidence>) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        evidence.stderr(&buffer[..read]);
    }
}

impl RmcpTransport<RoleClient> for Stdio {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let send = self.messages.send(item);
        let group = self.group.clone();
        async move {
            timeout(WRITE_LIMIT, send).await.unwrap_or_else(|_| {
                group.signal(Signal::KILL);
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not read its input"))
            })
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.next_message().await;
        if message.is_none() {
            self.note_ending().await;
        }
        message
    }

    /// Closes the input, then asks, then kills: at most about twice the grace period. Descendants that
    /// outlive the child are killed in any case.
    async fn close(&mut self) -> Result<(), Self::Error> {
        let closed = timeout(GRACE, self.messages.close()).await;
        if closed.is_err() || !self.ends().await {
            self.group.signal(Signal::TERM);
            self.ends().await;
        }
        self.group.signal(Signal::KILL);
        self.child.wait().await?;
        self.group.done();
        Ok(())
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
        self.group.done();
        if let Some(stderr) = &self.stderr {
            stderr.abort();
        }
    }
}

/// The child's process group; signals go to all its members until it is done.
struct Group {
    leader: Pid,
    done: std::sync::atomic::AtomicBool,
}

impl Group {
    fn of(child: &Child) -> io::Result<Self> {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = leader.ok_or_else(|| io::Error::other("the process ended at once"))?;
        Ok(Self { leader, done: false.into() })
    }

    /// Best effort: a group without members cannot be signalled, which is what is wanted.
    fn signal(&self, signal: Signal) {
        if !self.done.load(std::sync::atomic::Ordering::Acquire) {
            let _ = kill_process_group(self.leader, signal);
        }
    }

    /// No more signals: the number may be given to another process from now on.
    fn done(&self) {
        self.done.store(true, std::sync::atomic::Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, JsonRpcMessage, RequestId};
    use serde_json::json;

    fn large_request() -> TxJsonRpcMessage<RoleClient> {
        let arguments = json!({"text": "x".repeat(1024 * 1024)}).as_object().unwrap().clone();
        let params = CallToolRequestParams::new("t").with_arguments(arguments);
        JsonRpcMessage::request(
            ClientRequest::CallToolRequest(CallToolRequest::new(params)),
            RequestId::Number(1),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_does_not_read_is_killed() {
        let evidence = Arc::new(Evidence::default());
        let args = ["600".to_owned()];
        let mut child = Stdio::spawn("sleep", &args, &BTreeMap::new(), evidence.clone()).unwrap();
        let error = child.send(large_request()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        tokio::time::resume();
        assert!(matches!(timeout(WRITE_LIMIT, child.receive()).await, Ok(None)));
        assert!(evidence.ending().contains("signal: 9"), "{}", evidence.ending());
    }
}
