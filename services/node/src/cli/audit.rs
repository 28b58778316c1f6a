//! `toolcrib audit`: the trail of what was asked, decided and done, and what keeps it whole.

mod erase;
mod export;
mod file;
mod holds;
mod keygen;
mod keys;
mod prove;
mod report;
mod review;
mod standing;
mod trail;
mod verify;

use clap::Subcommand;

use super::{client::Client, error::Error, output::Output, redact};

/// What to do with the trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the trail, newest first, or follow it
    Trail(Box<trail::TrailArgs>),
    /// Show what would be stored of a value or a text, and what is taken out of it
    Redact(redact::RedactArgs),
    /// Write a part of the trail to a file that proves itself
    Export(export::ExportArgs),
    /// Check a file of the trail, or a proof of it, without a connection
    Verify(verify::VerifyArgs),
    /// Prove that an event stands in the trail, or that the trail has only grown
    Prove(prove::ProveArgs),
    /// Make a report for a framework: signed, and complete or refused
    Report(report::ReportArgs),
    /// Put on record that events were looked at, and what was found
    Review(review::ReviewArgs),
    /// Make a key that signs checkpoints
    Keygen(keygen::KeygenArgs),
    /// Legal holds, which keep records from erasure and from the end of their retention
    #[command(subcommand)]
    Holds(holds::Command),
    /// Show whether the trail is as it should be
    Health,
    /// Compare executions with the trail now
    #[command(after_help = "Examples:
  toolcrib audit reconcile
  toolcrib audit reconcile --since 7d")]
    Reconcile(standing::ReconcileArgs),
    /// Erase what is kept of an end user, in the whole suite
    #[command(after_help = "Examples:
  toolcrib audit erase ada@example.com --reason 'GDPR Art. 17, ticket 1207' --certificate ada.txt")]
    Erase(erase::EraseArgs),
}

/// Runs a command that needs no connection, and must work without any; gives back one that needs it.
pub fn run_offline(command: Command, output: &mut Output) -> Result<Option<Command>, Error> {
    match command {
        Command::Verify(args) => verify::run(&args, output).map(|()| None),
        Command::Keygen(args) => keygen::run(&args, output).map(|()| None),
        Command::Redact(args) if args.is_offline() => redact::run_offline(&args, output).map(|()| None),
        other => Ok(Some(other)),
    }
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Trail(args) => trail::run(*args, client, output).await,
        Command::Redact(args) => redact::run(&args, client, output).await,
        Command::Export(args) => export::run(args, client, output).await,
        Command::Prove(args) => prove::run(args, client, output).await,
        Command::Report(args) => report::run(args, client, output).await,
        Command::Review(args) => review::run(args, client, output).await,
        Command::Verify(args) => verify::run(&args, output),
        Command::Keygen(args) => keygen::run(&args, output),
        Command::Holds(command) => holds::run(command, client, output).await,
        Command::Health => standing::health(client, output).await,
        Command::Reconcile(args) => standing::reconcile(args, client, output).await,
        Command::Erase(args) => erase::run(args, client, output).await,
    }
}
