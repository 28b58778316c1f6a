//! `toolcrib webhooks`: addresses that are told of access requests.
//!
//! A new secret goes to standard output alone and is written nowhere else.

use clap::Subcommand;
use proto::permissions::v1::{
    ListWebhooksRequest, ListWebhooksResponse, PutWebhookRequest, PutWebhookResponse, RemoveWebhookRequest,
    RemoveWebhookResponse, Webhook,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, View},
    table::{Table, cell, number},
};

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List webhooks, and how their last deliveries went
    List,
    /// Name an address that is told of access requests and of budgets that are running out; prints the secret that signs what is sent, only this once
    #[command(after_help = "Example:
  toolcrib webhooks put approvals https://hooks.example.com/toolcrib > webhook.secret

What is sent is signed as Standard Webhooks has it (headers webhook-id, webhook-timestamp, webhook-signature), and may
come more than once under one webhook-id. Putting a webhook again gives it another secret.")]
    Put {
        /// Its name
        name: String,
        /// Where to send: https
        url: String,
    },
    /// Remove a webhook, and what waits for it
    Remove {
        /// Its name
        name: String,
    },
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List => {
            let request = ListWebhooksRequest {};
            let answer: ListWebhooksResponse =
                client.permissions().list_webhooks(request).await?.into_inner();
            output.show(&answer, |view| table(&answer.webhooks, view))
        }
        Command::Put { name, url } => put(PutWebhookRequest { name, url }, client, output).await,
        Command::Remove { name } => {
            let request = RemoveWebhookRequest { name: name.clone() };
            let answer: RemoveWebhookResponse =
                client.permissions().remove_webhook(request).await?.into_inner();
            output.show(&answer, |_| human::visible(&format!("webhook {name} is removed")))
        }
    }
}

async fn put(request: PutWebhookRequest, client: &Client, output: &mut Output) -> Result<(), Error> {
    let name = request.name.clone();
    let answer: PutWebhookResponse = client.permissions().put_webhook(request).await?.into_inner();
    output.show(&answer, |_| answer.secret.clone())?;
    output.flush()?;
    if output.is_json() {
        return Ok(());
    }
    output.note(&human::visible(&format!("the secret of webhook {name} is shown only now")))
}

fn table(webhooks: &[Webhook], view: View) -> String {
    let headings = ["NAME", "URL", "LAST SUCCESS", "WAITING", "GIVEN UP", "LAST ERROR"];
    let mut table = Table::new(&headings).whole(&[0]);
    for webhook in webhooks {
        table.row(vec![
            cell(&webhook.name),
            cell(&webhook.url),
            cell(human::moment(webhook.last_success_time.as_ref(), view.now)),
            number(webhook.waiting.to_string()),
            number(webhook.given_up.to_string()),
            cell(&webhook.last_error),
        ]);
    }
    table.render(view, "no webhook; name one with: toolcrib webhooks put NAME URL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_list_tells_where_to_and_what_went_wrong() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let webhook = Webhook {
            name: "ops".into(),
            url: "https://hooks.example.com/".into(),
            last_error: "answered 503".into(),
            waiting: 3,
            given_up: 1,
            ..Webhook::default()
        };
        let text = table(&[webhook], view);
        for part in ["ops", "https://hooks.example.com/", "3", "1", "answered 503"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(table(&[], view).contains("toolcrib webhooks put"));
    }
}
