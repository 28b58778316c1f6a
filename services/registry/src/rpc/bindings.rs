//! Maps how a tool is run and how a server is reached, both ways. Decides nothing.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use proto::registry::v1 as wire;

use super::mapping::View;
use crate::definition::{
    Binding, Builtin, CredentialPlace, CredentialUse, Grpc, Http, HttpBody, HttpBodyFormat, HttpLocation,
    HttpParameter, HttpStyle, Mcp, NextPage, Pagination,
};

impl View {
    pub(super) fn binding(self, binding: Binding) -> wire::Binding {
        let kind = match binding {
            Binding::Builtin(Builtin { name }) => wire::binding::Kind::Builtin(wire::BuiltinBinding { name }),
            Binding::Http(http) => wire::binding::Kind::Http(self.http(http)),
            Binding::Mcp(Mcp { server, tool, transport, credentials }) => {
                let transport = Some(self.transport(transport, credentials));
                wire::binding::Kind::Mcp(wire::McpBinding { server, tool, transport })
            }
            Binding::Grpc(grpc) => wire::binding::Kind::Grpc(self.grpc(grpc)),
        };
        wire::Binding { kind: Some(kind) }
    }

    fn http(self, http: Http) -> wire::HttpBinding {
        wire::HttpBinding {
            method: http.method,
            url: http.url,
            headers: self.values(http.headers),
            query_arguments: http.query_arguments,
            body_json: http.body_json,
            allow_private_network: http.allow_private_network,
            parameters: http.parameters.into_iter().map(wire_parameter).collect(),
            body: http.body.map(wire_body),
            credentials: http.credentials.into_iter().map(wire_credential).collect(),
            pagination: http.pagination.map(|pagination| wire::Pagination {
                next: Some(match pagination.next {
                    NextPage::CursorPointer(pointer) => wire::pagination::Next::CursorPointer(pointer),
                    NextPage::LinkParameter(name) => wire::pagination::Next::LinkParameter(name),
                }),
                argument: pagination.argument,
            }),
        }
    }

    fn grpc(self, grpc: Grpc) -> wire::GrpcBinding {
        wire::GrpcBinding {
            endpoint: grpc.endpoint,
            service: grpc.service,
            method: grpc.method,
            // What was checked before it was stored can be read.
            descriptor_set: BASE64.decode(&grpc.descriptor_set).unwrap_or_default(),
            metadata: self.values(grpc.metadata),
            allow_private_network: grpc.allow_private_network,
            credentials: grpc.credentials.into_iter().map(wire_credential).collect(),
        }
    }

    pub(super) fn transport(
        self,
        transport: mcp::Transport,
        credentials: Vec<CredentialUse>,
    ) -> wire::McpTransport {
        let kind = match transport {
            mcp::Transport::Stdio { command, args, env } => {
                wire::mcp_transport::Kind::Stdio(wire::StdioTransport {
                    command,
                    args,
                    env: self.values(env),
                })
            }
            mcp::Transport::Http { url, headers } => {
                wire::mcp_transport::Kind::Http(wire::HttpTransport { url, headers: self.values(headers) })
            }
        };
        let credentials = credentials.into_iter().map(wire_credential).collect();
        wire::McpTransport { kind: Some(kind), credentials }
    }

    fn values<M: FromIterator<(String, String)>>(
        self,
        values: std::collections::BTreeMap<String, String>,
    ) -> M {
        let shown = |value| if self == Self::Full { value } else { String::new() };
        values.into_iter().map(|(name, value)| (name, shown(value))).collect()
    }
}

fn wire_parameter(parameter: HttpParameter) -> wire::HttpParameter {
    let location = match parameter.location {
        HttpLocation::Query => wire::HttpLocation::Query,
        HttpLocation::Header => wire::HttpLocation::Header,
        HttpLocation::Cookie => wire::HttpLocation::Cookie,
        HttpLocation::Path => wire::HttpLocation::Path,
    };
    let style = match parameter.style {
        HttpStyle::Form => wire::HttpStyle::Form,
        HttpStyle::Simple => wire::HttpStyle::Simple,
        HttpStyle::SpaceDelimited => wire::HttpStyle::SpaceDelimited,
        HttpStyle::PipeDelimited => wire::HttpStyle::PipeDelimited,
        HttpStyle::DeepObject => wire::HttpStyle::DeepObject,
        HttpStyle::Label => wire::HttpStyle::Label,
        HttpStyle::Matrix => wire::HttpStyle::Matrix,
    };
    wire::HttpParameter {
        argument: parameter.argument,
        name: parameter.name,
        location: location.into(),
        style: style.into(),
        explode: parameter.explode,
        json: parameter.json,
    }
}

fn wire_body(body: HttpBody) -> wire::HttpBody {
    let format = match body.format {
        HttpBodyFormat::Json => wire::HttpBodyFormat::Json,
        HttpBodyFormat::Form => wire::HttpBodyFormat::Form,
        HttpBodyFormat::Multipart => wire::HttpBodyFormat::Multipart,
        HttpBodyFormat::Text => wire::HttpBodyFormat::Text,
        HttpBodyFormat::Base64 => wire::HttpBodyFormat::Base64,
    };
    wire::HttpBody { format: format.into(), argument: body.argument, content_type: body.content_type }
}

fn wire_credential(used: CredentialUse) -> wire::CredentialUse {
    let place = used.place.map(|place| match place {
        CredentialPlace::Header(name) => wire::credential_use::Place::Header(name),
        CredentialPlace::Query(name) => wire::credential_use::Place::Query(name),
        CredentialPlace::Cookie(name) => wire::credential_use::Place::Cookie(name),
        CredentialPlace::Env(name) => wire::credential_use::Place::Env(name),
    });
    wire::CredentialUse { credential: used.credential, place, prefix: used.prefix }
}

/// The binding of a request; the error names the field below `binding` that this version cannot read.
pub(super) fn binding(binding: wire::Binding) -> Result<Option<Binding>, &'static str> {
    let Some(kind) = binding.kind else { return Ok(None) };
    Ok(Some(match kind {
        wire::binding::Kind::Builtin(builtin) => Binding::Builtin(Builtin { name: builtin.name }),
        wire::binding::Kind::Http(binding) => Binding::Http(http(binding)?),
        wire::binding::Kind::Mcp(mcp) => {
            let nowhere = || (mcp::Transport::Http { url: String::new(), headers: [].into() }, vec![]);
            let (transport, credentials) = mcp.transport.and_then(transport).unwrap_or_else(nowhere);
            Binding::Mcp(Mcp { server: mcp.server, tool: mcp.tool, transport, credentials })
        }
        wire::binding::Kind::Grpc(grpc) => Binding::Grpc(Grpc {
            endpoint: grpc.endpoint,
            service: grpc.service,
            method: grpc.method,
            descriptor_set: BASE64.encode(&grpc.descriptor_set),
            metadata: grpc.metadata.into_iter().collect(),
            allow_private_network: grpc.allow_private_network,
            credentials: grpc.credentials.into_iter().map(credential).collect(),
        }),
    }))
}

fn http(http: wire::HttpBinding) -> Result<Http, &'static str> {
    Ok(Http {
        method: http.method,
        url: http.url,
        headers: http.headers.into_iter().collect(),
        query_arguments: http.query_arguments,
        body_json: http.body_json,
        allow_private_network: http.allow_private_network,
        parameters: http.parameters.into_iter().map(parameter).collect::<Option<_>>().ok_or("parameters")?,
        body: http.body.map(|given| body(given).ok_or("body.format")).transpose()?,
        credentials: http.credentials.into_iter().map(credential).collect(),
        pagination: http.pagination.map(|given| pagination(given).ok_or("pagination.next")).transpose()?,
    })
}

fn parameter(parameter: wire::HttpParameter) -> Option<HttpParameter> {
    let location = match wire::HttpLocation::try_from(parameter.location).ok()? {
        wire::HttpLocation::Query => HttpLocation::Query,
        wire::HttpLocation::Header => HttpLocation::Header,
        wire::HttpLocation::Cookie => HttpLocation::Cookie,
        wire::HttpLocation::Path => HttpLocation::Path,
        wire::HttpLocation::Unspecified => return None,
    };
    let style = match (wire::HttpStyle::try_from(parameter.style).ok()?, location) {
        (wire::HttpStyle::Unspecified, HttpLocation::Query | HttpLocation::Cookie)
        | (wire::HttpStyle::Form, _) => HttpStyle::Form,
        (wire::HttpStyle::Unspecified, HttpLocation::Path | HttpLocation::Header)
        | (wire::HttpStyle::Simple, _) => HttpStyle::Simple,
        (wire::HttpStyle::SpaceDelimited, _) => HttpStyle::SpaceDelimited,
        (wire::HttpStyle::PipeDelimited, _) => HttpStyle::PipeDelimited,
        (wire::HttpStyle::DeepObject, _) => HttpStyle::DeepObject,
        (wire::HttpStyle::Label, _) => HttpStyle::Label,
        (wire::HttpStyle::Matrix, _) => HttpStyle::Matrix,
    };
    let wire::HttpParameter { argument, name, explode, json, .. } = parameter;
    Some(HttpParameter { argument, name, location, style, explode, json })
}

fn body(body: wire::HttpBody) -> Option<HttpBody> {
    let format = match wire::HttpBodyFormat::try_from(body.format).ok()? {
        wire::HttpBodyFormat::Json => HttpBodyFormat::Json,
        wire::HttpBodyFormat::Form => HttpBodyFormat::Form,
        wire::HttpBodyFormat::Multipart => HttpBodyFormat::Multipart,
        wire::HttpBodyFormat::Text => HttpBodyFormat::Text,
        wire::HttpBodyFormat::Base64 => HttpBodyFormat::Base64,
        wire::HttpBodyFormat::Unspecified => return None,
    };
    Some(HttpBody { format, argument: body.argument, content_type: body.content_type })
}

fn pagination(pagination: wire::Pagination) -> Option<Pagination> {
    let next = match pagination.next? {
        wire::pagination::Next::CursorPointer(pointer) => NextPage::CursorPointer(pointer),
        wire::pagination::Next::LinkParameter(name) => NextPage::LinkParameter(name),
    };
    Some(Pagination { next, argument: pagination.argument })
}

pub(super) fn credential(used: wire::CredentialUse) -> CredentialUse {
    let place = used.place.map(|place| match place {
        wire::credential_use::Place::Header(name) => CredentialPlace::Header(name),
        wire::credential_use::Place::Query(name) => CredentialPlace::Query(name),
        wire::credential_use::Place::Cookie(name) => CredentialPlace::Cookie(name),
        wire::credential_use::Place::Env(name) => CredentialPlace::Env(name),
    });
    CredentialUse { credential: used.credential, place, prefix: used.prefix }
}

/// The transport of a request and the credentials that go with it.
pub(super) fn transport(transport: wire::McpTransport) -> Option<(mcp::Transport, Vec<CredentialUse>)> {
    let kind = match transport.kind? {
        wire::mcp_transport::Kind::Stdio(stdio) => mcp::Transport::Stdio {
            command: stdio.command,
            args: stdio.args,
            env: stdio.env.into_iter().collect(),
        },
        wire::mcp_transport::Kind::Http(http) => {
            mcp::Transport::Http { url: http.url, headers: http.headers.into_iter().collect() }
        }
    };
    Some((kind, transport.credentials.into_iter().map(credential).collect()))
}
