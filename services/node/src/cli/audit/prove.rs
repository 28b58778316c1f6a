//! `toolcrib audit prove`: that an event stands in the signed trail, or that the trail has grown from an earlier
//! checkpoint by appending alone. What the server says is checked before it is told.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{ArgGroup, Args};
use proto::audit::v1::{
    GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, GetInclusionProofResponse,
};
use rpc::ErrorReason;
use tonic::Status;
use trail::{
    Hash,
    note::VerifierKey,
    statement::{self, Statement},
};

use super::{file::NewFile, keys, verify};
use crate::cli::{client::Client, error::Error, files, output::Output};

/// How long an event that is not signed yet is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before it is asked for again.
const PAUSE: Duration = Duration::from_millis(300);

/// What to prove.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["event_id", "from"]))]
#[command(after_help = "Examples:
  toolcrib audit prove 019a9e1c-8f3e-7cc0-8000-000000000001 --out proof.json
  toolcrib audit prove --from checkpoint-of-last-week --key VERIFIER_KEY

Check the file anywhere, without a connection, with: toolcrib audit verify proof.json --key VERIFIER_KEY

Exit code: 0 proven, 1 not, 2 refused or misused, 3 toolcrib cannot be reached.")]
pub struct ProveArgs {
    /// Prove that this event stands in the trail
    event_id: Option<String>,
    /// Prove that the trail has grown from this checkpoint, a file, by appending alone
    #[arg(long, value_name = "FILE")]
    from: Option<String>,
    /// Believe this verifier key, or those of this file, instead of the one that the server names; may be repeated
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
    /// File to write the proof to
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(args: ProveArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let keys = keys::read(&args.keys)?;
    let file = match (&args.event_id, &args.from) {
        (Some(event), _) => inclusion(event, client).await?,
        (None, Some(from)) => consistency(from, client).await?,
        (None, None) => return Err(Error::usage("give the id of an event, or --from with a checkpoint")),
    };
    let statement = check(&file, &keys, output)?;
    if let Some(path) = &args.out {
        let mut proof = NewFile::begin(path)?;
        proof.write(&file)?;
        proof.finish()?;
    }
    verify::tell(&statement, output)?;
    match &args.out {
        Some(path) => output.note(&format!("the proof is in {}", path.display())),
        None => Ok(()),
    }
}

/// A proof that the server gives and that proves nothing is told, and fails.
fn check(file: &[u8], keys: &[VerifierKey], output: &mut Output) -> Result<Statement, Error> {
    match statement::verify(file, keys) {
        Ok(statement) => Ok(statement),
        Err(wrong) => {
            verify::tell_wrong(&wrong, output)?;
            Err(Error::Failed)
        }
    }
}

async fn inclusion(event_id: &str, client: &Client) -> Result<Vec<u8>, Error> {
    let proof = signed(event_id, client).await?;
    let verifier_key = verifier_key(client).await?;
    let leaf = if proof.leaf.is_empty() { Err(hash(&proof.leaf_hash)?) } else { Ok(proof.leaf.as_slice()) };
    let index = u64::try_from(proof.index).map_err(|_| Error::incomplete("index"))?;
    let hashes = hashes(&proof.hashes)?;
    statement::inclusion_file(&proof.checkpoint, &verifier_key, index, leaf, &hashes)
        .map_err(|wrong| Error::Fault(anyhow::anyhow!(wrong)))
}

/// The proof of an event, once it is under a checkpoint.
async fn signed(event_id: &str, client: &Client) -> Result<GetInclusionProofResponse, Error> {
    let begun = Instant::now();
    loop {
        let request = GetInclusionProofRequest { event_id: event_id.to_owned(), size: 0 };
        match client.audit().get_inclusion_proof(request).await {
            Ok(proof) => return Ok(proof.into_inner()),
            Err(status) if is_early(&status) && begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            Err(status) => return Err(status.into()),
        }
    }
}

fn is_early(status: &Status) -> bool {
    rpc::reason_of(status) == Some(ErrorReason::NotSignedYet)
}

async fn consistency(from: &str, client: &Client) -> Result<Vec<u8>, Error> {
    let note = files::read(from).map_err(Error::usage)?;
    let first = statement::unchecked_checkpoint(&note).ok_or_else(|| {
        Error::usage(format!("{from} holds no checkpoint: a signed note with origin, size and root"))
    })?;
    let newest = client.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await?.into_inner();
    let size = i64::try_from(first.size).unwrap_or(i64::MAX);
    if size > newest.size {
        let message =
            format!("{from} tells of {size} records, and the trail has {}: it was rolled back", newest.size);
        return Err(Error::Fault(anyhow::anyhow!(message)));
    }
    let request = GetConsistencyProofRequest { first_size: size, second_size: newest.size };
    let proof = client.audit().get_consistency_proof(request).await?.into_inner();
    let hashes = hashes(&proof.hashes)?;
    Ok(statement::consistency_file(&newest.checkpoint, &note, &newest.verifier_key, &hashes))
}

async fn verifier_key(client: &Client) -> Result<String, Error> {
    let newest = client.audit().get_checkpoint(GetCheckpointRequest { size: 0 }).await?;
    Ok(newest.into_inner().verifier_key)
}

fn hashes(bytes: &[Vec<u8>]) -> Result<Vec<Hash>, Error> {
    bytes.iter().map(|bytes| hash(bytes)).collect()
}

fn hash(bytes: &[u8]) -> Result<Hash, Error> {
    Hash::try_from(bytes).map_err(|_| Error::incomplete("hash of 32 bytes"))
}
