//! The model's help against a real server on loopback that does as a test tells it: well, slowly, wrongly, hostilely.

mod chosen;
mod hostile;
mod server;
mod well;

use std::time::Duration;

use reach::Authorities;

use super::{Aid, Config, Help, Offered};
use server::Server;

/// The task of these tests.
const TASK: &str = "tell the team that the build broke";
/// More than any of these tests waits.
const PATIENCE: Duration = Duration::from_secs(20);
const TOOLS: [Offered<'static>; 2] = [
    Offered { name: "chat.post", description: "Posts a message to a channel." },
    Offered { name: "mail.send", description: "Sends a mail." },
];

/// Settings for a server of this machine.
fn config(url: &str) -> Config {
    Config {
        endpoint: format!("{url}/v1"),
        model: "m-1".into(),
        allow_private_network: true,
        ..Config::off()
    }
}

fn help(server: &Server) -> Help {
    Help::new(&config(&server.url()), &Authorities::default())
}

fn begin(help: &Help) -> Aid {
    help.begin("crew", None, PATIENCE)
}

/// A chat completion whose text this is.
fn completion(words: &str) -> String {
    let message = serde_json::json!({"role": "assistant", "content": words});
    serde_json::json!({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})
        .to_string()
}
