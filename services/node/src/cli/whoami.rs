//! `toolcrib whoami`: who the server takes us for.

use proto::permissions::v1::{Role, WhoAmIRequest, WhoAmIResponse};

use super::{client::Client, error::Error, keys, output::Output, table::details, words::word};

/// Runs the command; `address` is where it asks.
pub async fn run(address: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: WhoAmIResponse = client.permissions().who_am_i(WhoAmIRequest {}).await?.into_inner();
    output.show(&answer, |view| {
        let rows = [
            ("agent", answer.agent_id.clone()),
            ("team", answer.team_id.clone()),
            ("specialization", answer.specialization.clone()),
            ("role", word::<Role>(answer.role)),
            ("on behalf of", answer.user.clone()),
            ("key held to", keys::scopes(&answer.scopes)),
            ("at", address.to_owned()),
        ];
        details(&rows, view)
    })
}
