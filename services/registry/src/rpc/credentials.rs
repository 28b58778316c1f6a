//! Credentials: parse, call the use case, map. Never logs a request.

use ::rpc::Call;
use chrono::{DateTime, Utc};
use proto::registry::v1::{
    self as wire, ListCredentialsRequest, ListCredentialsResponse, PutCredentialRequest,
    PutCredentialResponse, ResolveCredentialRequest, ResolveCredentialResponse, RevokeCredentialRequest,
    RevokeCredentialResponse, RotateCredentialRequest, RotateCredentialResponse, credential_rotation,
    credential_secret, resolve_credential_response,
};

use super::{Service, mapping::timestamp};
use crate::{
    Error,
    credentials::{
        Basic, Credential, Kind, Material, MutualTls, OAuth2Client, OAuth2Refresh, Offer, Rotation, Secret,
        Source, State,
    },
};

pub(super) async fn put(
    service: &Service,
    call: &Call,
    request: PutCredentialRequest,
) -> Result<PutCredentialResponse, Error> {
    let offer = Offer {
        name: request.name,
        secret: request.secret.map(secret).transpose()?,
        expire_time: request.expire_time.map(moment).transpose()?,
        rotation: request.rotation.map(rotation),
    };
    let kept = service.credentials.put(&call.caller, offer).await?;
    Ok(PutCredentialResponse { credential: Some(credential(kept)) })
}

pub(super) async fn rotate(
    service: &Service,
    call: &Call,
    request: RotateCredentialRequest,
) -> Result<RotateCredentialResponse, Error> {
    let secret = request.secret.map(secret).transpose()?;
    let expire_time = request.expire_time.map(moment).transpose()?;
    let rotated = service.credentials.rotate(&call.caller, request.name, secret, expire_time).await?;
    Ok(RotateCredentialResponse { credential: Some(credential(rotated)) })
}

pub(super) async fn revoke(
    service: &Service,
    call: &Call,
    request: RevokeCredentialRequest,
) -> Result<RevokeCredentialResponse, Error> {
    let revoked = service.credentials.revoke(&call.caller, &request.name, request.version).await?;
    Ok(RevokeCredentialResponse { credential: Some(credential(revoked)) })
}

pub(super) async fn list(
    service: &Service,
    call: &Call,
    _: ListCredentialsRequest,
) -> Result<ListCredentialsResponse, Error> {
    let all = service.credentials.list(&call.caller.team).await?;
    Ok(ListCredentialsResponse { credentials: all.into_iter().map(credential).collect() })
}

pub(super) async fn resolve(
    service: &Service,
    call: &Call,
    request: ResolveCredentialRequest,
) -> Result<ResolveCredentialResponse, Error> {
    let team = &call.caller.team;
    let resolved = service.credentials.resolve(team, &request.name, request.refused_version).await?;
    let kind = match resolved.material {
        Material::ApiKey(key) => resolve_credential_response::Kind::ApiKey(key.expose().to_owned()),
        Material::Bearer(token) => resolve_credential_response::Kind::BearerToken(token.expose().to_owned()),
        Material::Basic(Basic { user, password }) => {
            resolve_credential_response::Kind::Basic(wire::BasicSecret {
                user: user.expose().to_owned(),
                password: password.expose().to_owned(),
            })
        }
        Material::MutualTls(pair) => resolve_credential_response::Kind::MutualTls(wire::MutualTlsSecret {
            certificate_pem: pair.certificate_pem.expose().to_owned(),
            private_key_pem: pair.private_key_pem.expose().to_owned(),
            ca_pem: pair.ca_pem.expose().to_owned(),
        }),
    };
    let fresh_ms = i32::try_from(resolved.fresh.as_millis()).unwrap_or(0);
    Ok(ResolveCredentialResponse { version: resolved.version, kind: Some(kind), fresh_ms })
}

fn secret(given: wire::CredentialSecret) -> Result<Secret, Error> {
    Ok(match given.kind {
        None => return Err(Error::invalid("secret", "names no kind")),
        Some(credential_secret::Kind::ApiKey(key)) => Secret::ApiKey(key.into()),
        Some(credential_secret::Kind::Basic(basic)) => {
            Secret::Basic(Basic { user: basic.user.into(), password: basic.password.into() })
        }
        Some(credential_secret::Kind::Oauth2Client(client)) => Secret::OAuth2Client(OAuth2Client {
            token_url: client.token_url,
            client_id: client.client_id,
            client_secret: client.client_secret.into(),
            scopes: client.scopes,
            audience: client.audience,
            secret_in_body: client.secret_in_body,
        }),
        Some(credential_secret::Kind::Oauth2Refresh(refresh)) => Secret::OAuth2Refresh(OAuth2Refresh {
            token_url: refresh.token_url,
            client_id: refresh.client_id,
            client_secret: refresh.client_secret.into(),
            refresh_token: refresh.refresh_token.into(),
            scopes: refresh.scopes,
            secret_in_body: refresh.secret_in_body,
        }),
        Some(credential_secret::Kind::MutualTls(pair)) => Secret::MutualTls(MutualTls {
            certificate_pem: pair.certificate_pem.into(),
            private_key_pem: pair.private_key_pem.into(),
            ca_pem: pair.ca_pem.into(),
        }),
    })
}

fn moment(time: prost_types::Timestamp) -> Result<DateTime<Utc>, Error> {
    let nanos = u32::try_from(time.nanos).ok();
    let read = nanos.and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
    // What PostgreSQL can keep ends in the year 294276.
    read.filter(|read| *read < DateTime::<Utc>::MAX_UTC && time.seconds < 253_402_300_800)
        .ok_or_else(|| Error::invalid("expire_time", "must be a time before the year 10000"))
}

fn rotation(given: wire::CredentialRotation) -> Rotation {
    let source = match given.source {
        None => Source::Operator,
        Some(credential_rotation::Source::File(file)) => Source::File(file),
        Some(credential_rotation::Source::Url(url)) => Source::Url(url),
    };
    Rotation { interval_s: given.interval_s, overlap_s: given.overlap_s, source }
}

fn wire_rotation(rotation: Rotation) -> wire::CredentialRotation {
    let (interval_s, overlap_s) = (rotation.interval_s().unwrap_or(0), Some(rotation.overlap_s()));
    let source = match rotation.source {
        Source::Operator => None,
        Source::File(file) => Some(credential_rotation::Source::File(file)),
        Source::Url(url) => Some(credential_rotation::Source::Url(url)),
    };
    wire::CredentialRotation { interval_s, overlap_s, source }
}

fn credential(credential: Credential) -> wire::Credential {
    let Credential { row, versions, warning } = credential;
    let kind = match row.kind {
        Kind::ApiKey => wire::CredentialKind::ApiKey,
        Kind::Basic => wire::CredentialKind::Basic,
        Kind::OAuth2Client => wire::CredentialKind::Oauth2Client,
        Kind::OAuth2Refresh => wire::CredentialKind::Oauth2Refresh,
        Kind::MutualTls => wire::CredentialKind::MutualTls,
    };
    let versions = versions.into_iter().map(|version| wire::CredentialVersion {
        version: version.version,
        state: match version.state {
            State::Pending => wire::CredentialState::Pending,
            State::Active => wire::CredentialState::Active,
            State::Retiring => wire::CredentialState::Retiring,
            State::Revoked => wire::CredentialState::Revoked,
        }
        .into(),
        create_time: Some(timestamp(version.create_time)),
        expire_time: version.expire_time.map(timestamp),
        last_used_time: version.last_used_time.map(timestamp),
        retire_time: version.retire_time.map(timestamp),
    });
    wire::Credential {
        name: row.name,
        kind: kind.into(),
        versions: versions.collect(),
        rotation: Some(wire_rotation(row.rotation)),
        next_rotation_time: row.next_rotation_time.map(timestamp),
        last_error: row.last_error,
        warning,
    }
}
