//! `toolcrib audit keygen`: a new key that signs checkpoints. Asks no server; the private key goes where it is told and
//! nowhere else.

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use trail::note::SigningKey;

use crate::cli::{error::Error, output::Output};

/// Which key to make.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit keygen --out audit-signing.key
  toolcrib audit keygen --name crib.example.com > audit-signing.key

Give the file as audit.signing_key_file, and the verifier key to whoever checks the trail: they must not have it from
the trail itself.")]
pub struct KeygenArgs {
    /// Its name, which stands in every checkpoint: no spaces, no +
    #[arg(long, value_name = "NAME", default_value = "toolcrib")]
    name: String,
    /// File to write it to, readable by you alone; it must not be there [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes a key.
pub fn run(args: &KeygenArgs, output: &mut Output) -> Result<(), Error> {
    let key =
        SigningKey::generate(&args.name).map_err(|error| Error::usage(format!("--name: the key {error}")))?;
    let verifier_key = key.verifier_key();
    let Some(file) = &args.out else {
        output.text(&key.private_key())?;
        return output.note(&format!("verifier key: {verifier_key}"));
    };
    write(file, &key.private_key())?;
    if output.is_json() {
        return output.json(&json!({ "signing_key_file": file, "verifier_key": verifier_key }));
    }
    output.note(&format!("the signing key is in {}; the verifier key is", file.display()))?;
    output.text(&verifier_key)
}

fn write(file: &Path, line: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::usage(format!("cannot write {}: {error}", file.display()));
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    open.write_all(format!("{line}\n").as_bytes()).and_then(|()| open.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let key = SigningKey::generate("x").unwrap();
        write(&file, &key.private_key()).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::from_file(&file).unwrap().verifier_key(), key.verifier_key());
        let error = write(&file, "other").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert_eq!(SigningKey::from_file(&file).unwrap().verifier_key(), key.verifier_key());
    }
}
