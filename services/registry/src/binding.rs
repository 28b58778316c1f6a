//! How a tool is run, and how a request is made of its arguments. Part of every definition and of its digest: what is
//! not used is not written, so that the digests of older definitions stay as they were. No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a tool is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Binding {
    Builtin(Builtin),
    Http(Http),
    Mcp(Mcp),
    Grpc(Grpc),
}

/// A tool of toolcrib itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Builtin {
    pub name: String,
}

/// A tool that is one HTTP request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    pub method: String,
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub query_arguments: Vec<String>,
    pub body_json: bool,
    pub allow_private_network: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<HttpParameter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<HttpBody>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialUse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
}

impl Http {
    /// A request without anything but its method and address.
    pub(crate) fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: BTreeMap::new(),
            query_arguments: vec![],
            body_json: false,
            allow_private_network: false,
            parameters: vec![],
            body: None,
            credentials: vec![],
            pagination: None,
        }
    }
}

/// Where an argument goes in an HTTP request, and how it is written there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpParameter {
    pub argument: String,
    /// Empty: that of the argument.
    pub name: String,
    pub location: HttpLocation,
    pub style: HttpStyle,
    pub explode: bool,
    pub json: bool,
}

/// Where an argument goes in an HTTP request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HttpLocation {
    Query,
    Header,
    Cookie,
    Path,
}

/// How an array or object is written in a parameter (`OpenAPI` 3.1, section 4.8.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HttpStyle {
    Form,
    Simple,
    SpaceDelimited,
    PipeDelimited,
    DeepObject,
    Label,
    Matrix,
}

/// How the body of an HTTP request is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpBody {
    pub format: HttpBodyFormat,
    /// Empty: an object of every argument that stands nowhere else.
    pub argument: String,
    /// Empty: that of the format.
    pub content_type: String,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HttpBodyFormat {
    Json,
    Form,
    Multipart,
    Text,
    Base64,
}

/// How the next page of a long answer is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pagination {
    pub next: NextPage,
    pub argument: String,
}

/// Where the next page stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NextPage {
    /// JSON pointer of the cursor in the answer.
    CursorPointer(String),
    /// Query parameter of the Link header's next target.
    LinkParameter(String),
}

/// A credential, and where a request carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialUse {
    pub credential: String,
    /// `None`: where its kind says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<CredentialPlace>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// Where a request carries a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CredentialPlace {
    Header(String),
    Query(String),
    Cookie(String),
    Env(String),
}

/// A unary method of a gRPC server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grpc {
    pub endpoint: String,
    pub service: String,
    pub method: String,
    /// A serialized `FileDescriptorSet`, in base64.
    pub descriptor_set: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    pub allow_private_network: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialUse>,
}

/// A tool of an MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mcp {
    pub server: String,
    pub tool: String,
    pub transport: mcp::Transport,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialUse>,
}
