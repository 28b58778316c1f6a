//! `toolcrib pins`: tools that are offered in every answer of the selector, to those who may call them.

use clap::{Args, Subcommand};
use proto::{
    selector::v1::{
        ListPinsRequest, ListPinsResponse, Pin, PinToolRequest, PinToolResponse, UnpinToolRequest,
        UnpinToolResponse,
    },
    types::v1::Category,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, View},
    table::{Table, cell},
    words::{parser, word},
};

/// What to do with pins.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the team's pins
    List,
    /// Offer a tool in every answer, besides the ranking, to those who may call it
    #[command(after_help = "Examples:
  toolcrib pins add ask_a_person --note 'until the new runbooks are in'
  toolcrib pins add web_search --agent researcher --category data_retrieval

Pinning again changes the note.")]
    Add(AddArgs),
    /// End a pin
    Remove {
        /// Its id
        id: String,
    },
}

/// A pin to make.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Name of the tool
    tool: String,
    /// Only for this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only for tasks of this category
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Why
    #[arg(long)]
    note: Option<String>,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List => {
            let answer: ListPinsResponse =
                client.selector().list_pins(ListPinsRequest {}).await?.into_inner();
            output.show(&answer, |view| table(&answer.pins, view))
        }
        Command::Add(args) => {
            let request = PinToolRequest {
                tool_name: args.tool,
                agent_id: args.agent.unwrap_or_default(),
                category: args.category.map_or(0, |category| category as i32),
                note: args.note.unwrap_or_default(),
            };
            let answer: PinToolResponse = client.selector().pin_tool(request).await?.into_inner();
            output.show(&answer, |view| table(answer.pin.as_slice(), view))
        }
        Command::Remove { id } => {
            let request = UnpinToolRequest { pin_id: id.clone() };
            let answer: UnpinToolResponse = client.selector().unpin_tool(request).await?.into_inner();
            output.show(&answer, |_| human::visible(&format!("pin {id} is removed")))
        }
    }
}

fn table(pins: &[Pin], view: View) -> String {
    let headings = ["PIN", "TOOL", "AGENT", "CATEGORY", "BY", "SINCE", "NOTE"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for pin in pins {
        let category = word::<Category>(pin.category);
        let or_all = |text: &str| if text.is_empty() { "all".to_owned() } else { text.to_owned() };
        table.row(vec![
            cell(&pin.pin_id),
            cell(&pin.tool_name),
            cell(or_all(&pin.agent_id)),
            cell(or_all(&category)),
            cell(&pin.create_agent_id),
            cell(human::moment(pin.create_time.as_ref(), view.now)),
            cell(&pin.note),
        ]);
    }
    table.render(view, "no pin; make one with: toolcrib pins add TOOL")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_pin_is_told_with_whom_it_is_for() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let pin = Pin {
            pin_id: "p-1".into(),
            tool_name: "ask_a_person".into(),
            category: Category::Custom.into(),
            create_agent_id: "admin".into(),
            ..Pin::default()
        };
        let text = table(&[pin], view);
        assert!(text.contains("p-1  ask_a_person  all    custom    admin"), "{text}");
        assert!(table(&[], view).contains("toolcrib pins add"));
    }
}
