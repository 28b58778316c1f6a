//! `toolcrib credentials`: what tools and servers are reached with.
//!
//! A secret comes from a file, from standard input or from a variable, never from an argument, which every process of
//! the machine can read; and it is never shown.

mod secret;

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use proto::registry::v1::{
    Credential, CredentialKind, CredentialRotation, CredentialState, CredentialVersion,
    ListCredentialsRequest, ListCredentialsResponse, PutCredentialRequest, PutCredentialResponse,
    RevokeCredentialRequest, RevokeCredentialResponse, RotateCredentialRequest, RotateCredentialResponse,
    credential_rotation::Source,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::word,
};
use secret::SecretArgs;

/// What to do with credentials.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep a credential, or the next version of one
    #[command(after_help = "Examples:
  toolcrib credentials put github --kind api-key --from token.txt
  pass show api | toolcrib credentials put api --kind api-key --from - --expires 90d
  toolcrib credentials put crm --kind basic --user robot --from-env CRM_PASSWORD
  toolcrib credentials put mail --kind oauth2-client --token-url https://auth.example.com/token \\
      --client-id toolcrib --scope mail.send --from client-secret.txt
  toolcrib credentials put bank --kind mtls --certificate client.crt --from client.key --ca bank-ca.crt
  toolcrib credentials put vaulted --rotate-file vaulted.key --every 1h --overlap 10m")]
    Put(Box<PutArgs>),
    /// List credentials with their versions; never a secret
    List {
        /// Show ended versions too
        #[arg(long)]
        all: bool,
    },
    /// Give a credential its next version, now; the one before stays valid for its overlap
    #[command(after_help = "Examples:
  toolcrib credentials rotate github @token.txt
  pass show api | toolcrib credentials rotate api -
  toolcrib credentials rotate vaulted          # from its own source")]
    Rotate {
        /// Name of the credential
        name: String,
        /// @FILE, or - for standard input: the key, or a CredentialSecret as JSON [default: its own source]
        #[arg(value_name = "@FILE|-", value_parser = secret::place)]
        secret: Option<String>,
        /// When the version ends by itself, such as 90d or 2026-12-31T00:00:00Z
        #[arg(long, value_name = "TIME", value_parser = end)]
        expires: Option<Timestamp>,
    },
    /// End a version of a credential, or all of them, at once
    Revoke {
        /// Name of the credential
        name: String,
        /// The version to end [default: all of them]
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
        version: Option<i32>,
    },
}

/// The credential to keep.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Its name: a-z, 0-9, _ and -
    name: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// When it ends by itself, such as 90d or 2026-12-31T00:00:00Z [default: never, or with its certificate]
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: Option<Timestamp>,
    /// Rotate it from this file, below the team's folder of the server's registry.credentials.source_root
    #[arg(long, value_name = "PATH", conflicts_with = "rotate_url")]
    rotate_file: Option<String>,
    /// Rotate it from this address, which answers a POST with a CredentialSecret as JSON
    #[arg(long, value_name = "URL")]
    rotate_url: Option<String>,
    /// Time from one rotation to the next, such as 24h [default: 24h where there is a source]
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    every: Option<i64>,
    /// How long the version before stays valid, such as 1h; 0s: not at all [default: 1h]
    #[arg(long, value_name = "LENGTH", value_parser = overlap)]
    overlap: Option<i64>,
}

fn end(text: &str) -> Result<Timestamp, String> {
    human::parse_future(text, chrono::Utc::now()).map(human::to_wire)
}

fn overlap(text: &str) -> Result<i64, String> {
    if matches!(text, "0" | "0s") { Ok(0) } else { human::parse_seconds(text) }
}

impl PutArgs {
    fn rotation(&self) -> Option<CredentialRotation> {
        let file = self.rotate_file.clone().map(Source::File);
        let source = file.or_else(|| self.rotate_url.clone().map(Source::Url));
        let is_said = source.is_some() || self.every.is_some() || self.overlap.is_some();
        let (interval_s, overlap_s) = (self.every.unwrap_or_default(), self.overlap);
        is_said.then_some(CredentialRotation { interval_s, overlap_s, source })
    }

    fn request(self) -> Result<PutCredentialRequest, Error> {
        let rotation = self.rotation();
        let secret = self.secret.read()?;
        let has_source = rotation.as_ref().is_some_and(|rotation| rotation.source.is_some());
        if secret.is_none() && !has_source {
            let told = "give the secret: --kind with --from FILE, - or --from-env NAME, or --json FILE; \
                        or where it comes from: --rotate-file or --rotate-url";
            return Err(Error::usage(told));
        }
        Ok(PutCredentialRequest { name: self.name, secret, expire_time: self.expires, rotation })
    }
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Put(args) => {
            let answer: PutCredentialResponse =
                client.registry().put_credential(args.request()?).await?.into_inner();
            shown(&answer, answer.credential.as_ref(), output)
        }
        Command::List { all } => {
            let answer: ListCredentialsResponse =
                client.registry().list_credentials(ListCredentialsRequest {}).await?.into_inner();
            output.show(&answer, |view| table(&answer.credentials, all, view))?;
            remarks(&answer.credentials, output)
        }
        Command::Rotate { name, secret, expires } => {
            let secret = secret.map(|place| secret::read_any(&place)).transpose()?;
            let request = RotateCredentialRequest { name, secret, expire_time: expires };
            let answer: RotateCredentialResponse =
                client.registry().rotate_credential(request).await?.into_inner();
            shown(&answer, answer.credential.as_ref(), output)
        }
        Command::Revoke { name, version } => {
            let request = RevokeCredentialRequest { name, version: version.unwrap_or_default() };
            let answer: RevokeCredentialResponse =
                client.registry().revoke_credential(request).await?.into_inner();
            shown(&answer, answer.credential.as_ref(), output)
        }
    }
}

fn shown<M: prost::Message + prost::Name>(
    answer: &M,
    credential: Option<&Credential>,
    output: &mut Output,
) -> Result<(), Error> {
    let credential = credential.ok_or_else(|| Error::incomplete("credential"))?;
    output.show(answer, |view| table(std::slice::from_ref(credential), true, view))?;
    remarks(std::slice::from_ref(credential), output)
}

/// What an operator should look at, beside the answer.
fn remarks(credentials: &[Credential], output: &mut Output) -> Result<(), Error> {
    for credential in credentials.iter().filter(|credential| !credential.warning.is_empty()) {
        output.note(&format!("{}: {}", credential.name, credential.warning))?;
    }
    Ok(())
}

/// A row a version; without `all`, of a credential that has live ones only these.
fn table(credentials: &[Credential], all: bool, view: View) -> String {
    let headings = ["NAME", "KIND", "VERSION", "STATE", "KEPT", "USED", "ENDS", "NEXT ROTATION"];
    let mut table = Table::new(&headings).whole(&[0]);
    for credential in credentials {
        let is_live = |version: &&CredentialVersion| version.state() != CredentialState::Revoked;
        let mut versions: Vec<_> = credential.versions.iter().filter(|each| all || is_live(each)).collect();
        if versions.is_empty() {
            versions.extend(credential.versions.first());
        }
        for (index, version) in versions.into_iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            table.row(vec![
                cell(&credential.name),
                cell(first(word::<CredentialKind>(credential.kind).replace('_', "-"))),
                number(version.version.to_string()),
                toned(word::<CredentialState>(version.state), tone(version.state())),
                cell(human::moment(version.create_time.as_ref(), view.now)),
                cell(human::moment(version.last_used_time.as_ref(), view.now)),
                cell(human::moment(ends(version), view.now)),
                cell(first(human::moment(credential.next_rotation_time.as_ref(), view.now))),
            ]);
        }
    }
    table.render(
        view,
        "no credentials yet; keep one with: toolcrib credentials put NAME --kind api-key --from FILE",
    )
}

fn tone(state: CredentialState) -> Tone {
    match state {
        CredentialState::Active => Tone::Good,
        CredentialState::Retiring => Tone::Warn,
        CredentialState::Revoked => Tone::Dim,
        CredentialState::Pending | CredentialState::Unspecified => Tone::Plain,
    }
}

/// When a version ends: by itself, or because its overlap is over.
fn ends(version: &CredentialVersion) -> Option<&Timestamp> {
    let of = |time: &&Timestamp| (time.seconds, time.nanos);
    [version.expire_time.as_ref(), version.retire_time.as_ref()].into_iter().flatten().min_by_key(of)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use clap::Parser;
    use proto::registry::v1::{CredentialSecret, credential_secret::Kind};

    use super::*;
    use crate::cli::output::Style;

    #[derive(Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    fn put(words: &[&str]) -> Result<PutCredentialRequest, String> {
        let words = ["credentials", "put", "name"].iter().chain(words);
        match Probe::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Put(args) => args.request().map_err(|error| format!("{error:?}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rotation_may_give_the_secret_and_something_must() {
        let request = put(&["--rotate-file", "key", "--every", "1h", "--overlap", "0s"]).unwrap();
        let rotation = request.rotation.unwrap();
        assert_eq!((rotation.interval_s, rotation.overlap_s), (3_600, Some(0)));
        assert_eq!(rotation.source, Some(Source::File("key".into())));
        assert!(request.secret.is_none());
        assert!(put(&[]).unwrap_err().contains("--rotate-file"));
        assert!(put(&["--every", "1h"]).is_err(), "nothing says where from");
        assert!(put(&["--rotate-file", "a", "--rotate-url", "b"]).is_err());
    }

    #[test]
    fn a_secret_is_read_from_a_file_and_never_from_the_command_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let path = file.path().to_str().unwrap();
        let kept = put(&["--kind", "api-key", "--from", path, "--expires", "90d"]).unwrap();
        assert_eq!(kept.secret, Some(CredentialSecret { kind: Some(Kind::ApiKey("hunter2".into())) }));
        assert!(kept.expire_time.is_some() && kept.rotation.is_none());
        assert!(put(&["--kind", "api-key", "hunter2"]).is_err());
        let rotate = |secret: &str| Probe::try_parse_from(["credentials", "rotate", "name", secret]);
        assert!(rotate("-").is_ok() && rotate("@key").is_ok());
        let refused = rotate("hunter2").err().unwrap().to_string();
        assert!(refused.contains("never an argument"), "{refused}");
    }

    #[test]
    fn live_versions_are_rows_and_ended_ones_only_where_there_is_no_other() {
        let version = |version, state: CredentialState| CredentialVersion {
            version,
            state: state.into(),
            ..CredentialVersion::default()
        };
        let credential = |name: &str, states: &[CredentialState]| Credential {
            name: name.into(),
            kind: CredentialKind::ApiKey.into(),
            versions: (1..).zip(states).map(|(number, state)| version(number, *state)).collect(),
            ..Credential::default()
        };
        let all = [
            credential(
                "live",
                &[CredentialState::Active, CredentialState::Retiring, CredentialState::Revoked],
            ),
            credential("over", &[CredentialState::Revoked, CredentialState::Revoked]),
        ];
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let text = table(&all, false, view);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("api-key") && text.contains("retiring"), "{text}");
        assert_eq!(table(&all, true, view).lines().count(), 6);
        assert!(table(&[], false, view).contains("credentials put"));
    }
}
