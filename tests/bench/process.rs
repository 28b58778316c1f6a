//! Processes under measurement: this program again, in another part. The parent says what it is by the environment and
//! tells it what to do by lines of JSON on its standard input; it ends when that ends.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use node::config::{Roles, Settings};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tests::PATIENCE;

use crate::{
    caller::{self, What},
    decisions, echo,
    house::House,
    load::{Loop, Measured},
};

/// The part of a process that only echoes.
pub const ECHO: &str = "echo";

/// What the parent may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Whether events may leave the outbox.
    Relays(bool),
    /// Make calls in process: of the edge, or of the driver alone.
    Call { driver: bool, what: What, plan: Loop },
    /// Ask permissions, in process, whether an agent may call a tool.
    Authorize { agent: String, tool: String, plan: Loop },
}

/// A process, seen from its parent.
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Where it listens, by role; `driver`, `echo` and `echo2` besides.
    pub addresses: BTreeMap<String, SocketAddr>,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a process of these roles, or the echo, and waits until it serves.
    pub fn start(part: &str, team: &str, settings: &[(&str, String)], log: &Path) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let mut child = Command::new(program)
            .args(["--part", part, "--team", team])
            .envs(settings.iter().map(|(name, value)| (format!("TOOLCRIB__{name}"), value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("this program starts again");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let pid = child.id();
        let mut process = Self { pid, addresses: BTreeMap::new(), child, input, output };
        process.addresses = process.read();
        process
    }

    /// Holds the events in the outbox, or lets them go.
    pub fn relays(&mut self, open: bool) {
        self.order::<bool>(&Order::Relays(open));
    }

    /// Calls in process.
    pub fn call(&mut self, driver: bool, what: &What, plan: Loop) -> Measured {
        self.order(&Order::Call { driver, what: what.clone(), plan })
    }

    /// Decisions in process.
    pub fn authorize(&mut self, agent: &str, tool: &str, plan: Loop) -> Measured {
        self.order(&Order::Authorize { agent: agent.to_owned(), tool: tool.to_owned(), plan })
    }

    fn order<T: DeserializeOwned>(&mut self, order: &Order) -> T {
        let mut line = serde_json::to_string(order).expect("an order is JSON");
        line.push('\n');
        let input = self.input.as_mut().expect("it has not been stopped");
        input.write_all(line.as_bytes()).expect("the process reads");
        self.read()
    }

    fn read<T: DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the process writes");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("a process has ended: see its log"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Is that process, until its input ends.
pub async fn be(part: &str, team: &str) {
    let settings = Settings::load(None).expect("the settings are read");
    if part == ECHO {
        return be_echo(&settings).await;
    }
    let roles: Roles = part.parse().expect("the part is a list of roles");
    let settings = settings.checked(&roles).expect("the settings are sound");
    let telemetry = telemetry::start(&settings.telemetry, part).expect("telemetry starts");
    let house = House::start(&settings, &roles, team).await;
    let mut addresses: BTreeMap<&str, SocketAddr> =
        house.addresses.iter().map(|(role, address)| (role.as_str(), *address)).collect();
    addresses.extend(house.driver.as_ref().map(|(address, _)| ("driver", *address)));
    say(&addresses);
    while let Some(order) = next_order().await {
        match order {
            Order::Relays(open) => {
                house.relays.send_replace(open);
                say(&true);
            }
            Order::Call { driver, what, plan } => say(&call(&house, driver, &what, plan).await),
            Order::Authorize { agent, tool, plan } => {
                let (link, outgoing) = house.permissions.as_ref().expect("an all-in-one process has it");
                say(&decisions::measure(link, outgoing, (team, &agent, &tool), plan).await);
            }
        }
    }
    house.stop().await;
    let _ = tokio::task::spawn_blocking(|| telemetry.shutdown()).await;
}

async fn call(house: &House, driver: bool, what: &What, plan: Loop) -> Measured {
    let link = if driver { house.driver.as_ref().map(|(_, link)| link) } else { house.edge.as_ref() };
    let links = [link.expect("an all-in-one process has both").clone()];
    caller::measure(&links, what, plan, || (), || ()).await
}

async fn be_echo(settings: &Settings) {
    let url = settings.database.url.as_ref().expect("a database");
    let database = store::Database::new(url, 4).expect("the URL is well-formed");
    database.wait_until_up(PATIENCE).await.expect("the database answers");
    let pool = database.pool().expect("it is up").clone();
    let echo = echo::bare().serve().await;
    let durable = echo::with_two_commits(pool).await.serve().await;
    say(&BTreeMap::from([("echo", echo), ("echo2", durable)]));
    while next_order().await.is_some() {}
}

/// The next line; `None`: there will be none.
async fn next_order() -> Option<Order> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        serde_json::from_str(&line).ok()
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

/// One line for the parent.
fn say(value: &impl Serialize) {
    println!("{}", serde_json::to_string(value).expect("an answer is JSON"));
}
