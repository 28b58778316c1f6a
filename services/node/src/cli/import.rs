//! `toolcrib tools import`: tools of an OpenAPI document, of a pack that ships with toolcrib, or of a gRPC server.

use std::io::{Read as _, Write as _};

use clap::{ArgGroup, Args};
use flate2::{Compression, write::GzEncoder};
use proto::{
    registry::v1::{
        ChangeKind, CredentialUse, ImportCounts, ImportDefaults, ImportGrpcRequest, ImportOpenApiRequest,
        ImportResult, ImportedTool, credential_use::Place, import_open_api_request::Source,
    },
    types::v1::{Category, Sensitivity},
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    prefixed::Prefixed,
    table::{Table, cell, toned},
    words::{parser, word},
};

/// Longest wait for an import, in seconds: hundreds of schemas are checked.
pub const TIMEOUT_S: u64 = 300;
/// Largest document, in bytes: what the server unpacks.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes that one message may have, less what stands around the document.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Documents above this many bytes are sent compressed.
const COMPRESS_FROM: usize = 256 * 1024;

/// What the help says after the options.
pub const HELP: &str = "Examples:
  toolcrib tools import --pack github --credential token=github-key
  toolcrib tools import @petstore.yaml --provider petstore --dry-run
  toolcrib tools import @api.json --provider crm --server https://crm.example.com/v2 --tag contacts --method get
  toolcrib tools import @api.json --provider crm --operation getContact --operation 'POST /contacts'
  toolcrib tools import --grpc https://api.example.com --provider shop --service shop.v1.Orders --method GetOrder
  toolcrib tools import --grpc http://127.0.0.1:50051 --provider shop --allow-private-network --dry-run

A credential is given by the name of the document's security scheme; '*' is for every operation that names none.
Of a gRPC server it is given by the entry of metadata that carries it, such as x-api-key=shop-key, or with something
before it 'x-auth=Token {shop-key}'; '*' is for where its kind says: authorization, or the TLS connection.";

/// What to import.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("from").required(true).args(["document", "pack", "grpc"]))]
pub struct ImportArgs {
    /// OpenAPI 3.0 or 3.1 document, JSON or YAML; "@-" reads standard input
    #[arg(value_name = "@FILE", requires = "provider")]
    document: Option<String>,
    /// Tool pack that ships with toolcrib: github, gitlab or slack
    #[arg(long, value_name = "NAME")]
    pack: Option<String>,
    /// gRPC server with reflection: https://host:port, or http:// for HTTP/2 without TLS
    #[arg(long, value_name = "ENDPOINT", requires = "provider", conflicts_with_all = ["server", "operations", "tags"])]
    grpc: Option<String>,
    /// First part of the tools' names, and their provider [default for a pack: its name]
    #[arg(long, value_name = "WORD")]
    provider: Option<String>,
    /// Base address, instead of that of the document
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Take this operation, by its id or as "GET /path"; may be repeated
    #[arg(long = "operation", value_name = "OPERATION")]
    operations: Vec<String>,
    /// Take operations with this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Take this service of the gRPC server, by its full name; may be repeated
    #[arg(long = "service", value_name = "SERVICE", requires = "grpc")]
    services: Vec<String>,
    /// Metadata that every call of the gRPC server carries, never a secret; may be repeated
    #[arg(long = "metadata", value_name = "NAME=VALUE", value_parser = entry, requires = "grpc")]
    metadata: Vec<(String, String)>,
    /// Take operations with this HTTP method, or gRPC methods of this name; may be repeated
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// Credential for a security scheme of the document, or an entry of gRPC metadata; may be repeated
    #[arg(long = "credential", value_name = "SCHEME=NAME", value_parser = pair)]
    credentials: Vec<(String, Prefixed)>,
    /// Category, where the document says none [default: api_integration]
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Capability, where the document says none; may be repeated [default: integrate]
    #[arg(long = "capability", value_name = "WORD")]
    capabilities: Vec<String>,
    /// Most sensitive data that the tools handle [default: internal]
    #[arg(long, value_parser = parser::<Sensitivity>())]
    sensitivity: Option<Sensitivity>,
    /// Longest run of a call, in milliseconds [default: 30000]
    #[arg(long, value_name = "MS", default_value_t = 0, hide_default_value = true)]
    timeout_ms: i64,
    /// Calls a minute that each tool stands [default: 60]
    #[arg(long, value_name = "CALLS", default_value_t = 0, hide_default_value = true)]
    rate_limit: i32,
    /// Believe that GET operations only read (else: idempotent), and what gRPC methods declare (else: side effect)
    #[arg(long)]
    trust_effects: bool,
    /// Let the tools reach addresses that are not public, such as this machine
    #[arg(long)]
    allow_private_network: bool,
    /// Keep nothing; tell what would be
    #[arg(long)]
    dry_run: bool,
}

/// Imports, and shows what became of each operation.
pub async fn run(args: ImportArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let is_dry = args.dry_run;
    if let Some(endpoint) = args.grpc.clone() {
        let answer = client.registry().import_grpc(args.grpc_request(endpoint)?).await?.into_inner();
        output.show(&answer, |view| table(&answer.tools, view))?;
        return told(answer.counts.unwrap_or_default(), answer.truncated, is_dry, output);
    }
    let request = args.request()?;
    let answer = client.registry().import_open_api(request).await?.into_inner();
    output.show(&answer, |view| table(&answer.tools, view))?;
    told(answer.counts.unwrap_or_default(), answer.truncated, is_dry, output)
}

impl ImportArgs {
    fn request(self) -> Result<ImportOpenApiRequest, Error> {
        let defaults = Some(self.defaults());
        if let Some((scheme, used)) = self.credentials.iter().find(|(_, used)| !used.prefix.is_empty()) {
            return Err(Error::usage(format!(
                "the document says what stands before the credential of {scheme}: give {scheme}={}",
                used.name
            )));
        }
        let source = match (self.pack, self.document) {
            (Some(pack), _) => Source::Pack(pack),
            (None, Some(file)) => Source::Document(read(&file).map_err(Error::Usage)?),
            (None, None) => {
                return Err(Error::usage("give a document as @FILE, a --pack, or a --grpc server"));
            }
        };
        Ok(ImportOpenApiRequest {
            source: Some(source),
            provider: self.provider.unwrap_or_default(),
            server_url: self.server.unwrap_or_default(),
            operations: self.operations,
            tags: self.tags,
            methods: self.methods,
            credentials: self.credentials.into_iter().map(|(scheme, used)| (scheme, used.name)).collect(),
            defaults,
            allow_private_network: self.allow_private_network,
            validate_only: self.dry_run,
        })
    }

    fn grpc_request(self, endpoint: String) -> Result<ImportGrpcRequest, Error> {
        let used = |(place, used): &(String, Prefixed)| {
            if place == "*" && !used.prefix.is_empty() {
                return Err(Error::usage(format!(
                    "what stands before a credential needs an entry of metadata: give 'authorization={}{{{}}}'",
                    used.prefix, used.name
                )));
            }
            let place = (place != "*").then(|| Place::Header(place.clone()));
            Ok(CredentialUse { credential: used.name.clone(), place, prefix: used.prefix.clone() })
        };
        Ok(ImportGrpcRequest {
            endpoint,
            credentials: self.credentials.iter().map(used).collect::<Result<_, _>>()?,
            defaults: Some(self.defaults()),
            provider: self.provider.unwrap_or_default(),
            services: self.services,
            methods: self.methods,
            metadata: self.metadata.into_iter().collect(),
            allow_private_network: self.allow_private_network,
            validate_only: self.dry_run,
        })
    }

    fn defaults(&self) -> ImportDefaults {
        ImportDefaults {
            category: self.category.unwrap_or_default().into(),
            capabilities: self.capabilities.clone(),
            sensitivity: self.sensitivity.unwrap_or_default().into(),
            timeout_ms: self.timeout_ms,
            rate_limit_per_minute: self.rate_limit,
            trust_effects: self.trust_effects,
        }
    }
}

fn entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?} is not NAME=VALUE, such as x-tenant=acme")),
    }
}

fn pair(text: &str) -> Result<(String, Prefixed), String> {
    match text.split_once('=') {
        Some((scheme, name)) if !scheme.is_empty() && !name.is_empty() => {
            Ok((scheme.into(), Prefixed::parse(name)?))
        }
        _ => Err(format!("{text:?} is not SCHEME=NAME, such as token=github-key")),
    }
}

/// The bytes of a document, compressed where they are many.
fn read(file: &str) -> Result<Vec<u8>, String> {
    let name = file.strip_prefix('@').unwrap_or(file);
    let failed = |error: std::io::Error| format!("cannot read {name}: {error}");
    let mut bytes = Vec::new();
    if name == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let open = std::fs::File::open(name).map_err(failed)?;
        open.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("{name} is larger than 64 MiB, the most that is taken"));
    }
    if bytes.len() > COMPRESS_FROM && !bytes.starts_with(&[0x1f, 0x8b]) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        bytes = encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_err(failed)?;
    }
    if bytes.len() > MAX_MESSAGE_BYTES {
        let told = "the most that one message may have: take a part of it";
        return Err(format!("{name} is larger than 4 MiB even when it is compressed, {told}"));
    }
    Ok(bytes)
}

/// What became of each operation, as a table.
pub fn table(tools: &[ImportedTool], view: View) -> String {
    let mut table = Table::new(&["NAME", "RESULT", "VERSION", "MADE OF", "NOTE"]).whole(&[0]);
    for tool in tools {
        let tone = match ImportResult::try_from(tool.result) {
            Ok(ImportResult::Created) => Tone::Good,
            Ok(ImportResult::Updated) => Tone::Warn,
            Ok(ImportResult::Refused) => Tone::Bad,
            _ => Tone::Dim,
        };
        table.row(vec![
            cell(&tool.name),
            toned(word::<ImportResult>(tool.result), tone),
            cell(&tool.version),
            cell(&tool.source),
            cell(note(tool)),
        ]);
    }
    table.render(view, "nothing was imported")
}

/// Why it was refused, what could not be kept, and the gravest of what changed.
fn note(tool: &ImportedTool) -> String {
    let gravest = tool.changes.iter().min_by_key(|change| change.kind);
    let change = gravest.map(|change| {
        let more = tool.changes.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        format!("{}: {}{more}", word::<ChangeKind>(change.kind), change.description)
    });
    let parts: Vec<String> =
        change.into_iter().chain([tool.note.clone()]).filter(|part| !part.is_empty()).collect();
    human::brief(&parts.join("; "), 200)
}

/// How many became what, beside the answer; an import that takes nothing has failed.
pub fn told(counts: ImportCounts, truncated: bool, is_dry: bool, output: &mut Output) -> Result<(), Error> {
    let ImportCounts { created, updated, unchanged, refused } = counts;
    let would = if is_dry { "; nothing was kept" } else { "" };
    output.note(&format!(
        "{created} created, {updated} updated, {unchanged} unchanged, {refused} refused{would}"
    ))?;
    if truncated {
        output
            .note("the list does not hold them all; see the tools with: toolcrib tools list --provider …")?;
    }
    if created + updated + unchanged == 0 { Err(Error::Failed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        args: ImportArgs,
    }

    fn asked(words: &[&str]) -> Result<ImportOpenApiRequest, String> {
        let probe =
            Probe::try_parse_from(["import"].iter().chain(words)).map_err(|error| error.to_string())?;
        probe.args.request().map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_document_or_a_pack_is_imported_and_never_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.yaml");
        std::fs::write(&path, "openapi: 3.1.0").unwrap();
        let file = format!("@{}", path.display());
        let request =
            asked(&[&file, "--provider", "api", "--credential", "key=a=b", "--method", "get", "--dry-run"])
                .unwrap();
        assert!(!request.defaults.unwrap().trust_effects);
        let trusted = asked(&[&file, "--provider", "api", "--trust-effects"]).unwrap();
        assert!(trusted.defaults.unwrap().trust_effects);
        assert_eq!(request.source, Some(Source::Document(b"openapi: 3.1.0".to_vec())));
        assert_eq!(request.credentials["key"], "a=b");
        assert!(request.validate_only && request.methods == ["get"]);
        assert_eq!(asked(&["--pack", "github"]).unwrap().source, Some(Source::Pack("github".into())));
        for bad in [
            vec![],
            vec![&file[..]],
            vec![&file, "--provider", "a", "--pack", "github"],
            vec!["--pack", "x", "--credential", "y"],
            vec!["--pack", "x", "--credential", "y=Token z"],
            vec!["--pack", "x", "--credential", "y=Token {z}"],
        ] {
            assert!(asked(&bad).is_err(), "{bad:?}");
        }
        assert!(asked(&["@/nowhere", "--provider", "a"]).unwrap_err().contains("/nowhere"));
    }

    #[test]
    fn a_grpc_server_has_options_of_its_own() {
        let parse = |words: &[&str]| {
            Probe::try_parse_from(["import", "--grpc", "http://h:1"].iter().chain(words))
                .map(|probe| probe.args.grpc_request("http://h:1".into()).unwrap())
        };
        let request = parse(&[
            "--provider",
            "p",
            "--service",
            "a.B",
            "--method",
            "Do",
            "--metadata",
            "x-a=b=c",
            "--trust-effects",
            "--credential",
            "*=one",
            "--credential",
            "x-key=two",
            "--credential",
            "x-auth=Token {three}",
        ]);
        let request = request.unwrap();
        assert_eq!((request.services, request.methods), (vec!["a.B".to_owned()], vec!["Do".to_owned()]));
        assert_eq!(request.metadata["x-a"], "b=c");
        assert!(request.defaults.unwrap().trust_effects);
        let header = |name: &str| Some(Place::Header(name.into()));
        let places: Vec<_> =
            request.credentials.into_iter().map(|used| (used.credential, used.place, used.prefix)).collect();
        let expected =
            [("one", None, ""), ("two", header("x-key"), ""), ("three", header("x-auth"), "Token ")];
        assert_eq!(places, expected.map(|(name, place, prefix)| (name.into(), place, prefix.into())));
        for bad in [&[][..], &["--provider", "p", "--tag", "t"], &["--provider", "p", "--pack", "github"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(Probe::try_parse_from(["import", "--pack", "github", "--service", "a"]).is_err());
        let nowhere = ["import", "--grpc", "http://h:1", "--provider", "p", "--credential", "*=Bearer {key}"];
        let refused = Probe::try_parse_from(nowhere).unwrap().args.grpc_request("http://h:1".into());
        assert!(format!("{refused:?}").contains("authorization=Bearer {key}"), "{refused:?}");
    }

    #[test]
    fn what_is_large_is_compressed_and_what_is_too_large_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.json");
        std::fs::write(&path, vec![b' '; 5 * 1024 * 1024]).unwrap();
        let bytes = read(path.to_str().unwrap()).unwrap();
        assert!(bytes.len() < 10_000 && bytes.starts_with(&[0x1f, 0x8b]));
        assert!(read("/dev/zero").unwrap_err().contains("64 MiB"));
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(5 * 1024 * 1024)
        .collect();
        std::fs::write(&path, noise).unwrap();
        assert!(read(path.to_str().unwrap()).unwrap_err().contains("4 MiB"));
    }
}
