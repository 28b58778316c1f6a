//! Addresses that are told of access requests. `secret.rs` seals and signs, `deliver.rs`
//! sends, `destinations.rs` says where to. What is told holds no arguments of a call, and a secret leaves only in the
//! answer that makes it.

mod deliver;
mod destinations;
mod secret;

use ::store::{Database, Error as StoreError};
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::SecretString;
use serde::Serialize;
use types::Caller;
use uuid::Uuid;

pub(crate) use deliver::Courier;
pub(crate) use destinations::Destinations;
pub(crate) use secret::Seal;
use secret::Secret;

use crate::{
    Error, names,
    store::{self, NewWebhook, WebhookRow},
    trail::{self, Action},
};

/// Most webhooks of a team.
const MAX_WEBHOOKS: i64 = 10;
/// Longest address, in characters.
const MAX_URL: usize = 2_000;

/// What happened to an access request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Created,
    Approved,
    Denied,
    Expired,
    /// An approval that serves once did.
    Used,
    /// An approval was taken back.
    Revoked,
}

impl News {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "access_request.created",
            Self::Approved => "access_request.approved",
            Self::Denied => "access_request.denied",
            Self::Expired => "access_request.expired",
            Self::Used => "access_request.used",
            Self::Revoked => "access_request.revoked",
        }
    }
}

/// What is told of an access request; never its arguments.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Subject<'a> {
    pub id: Uuid,
    pub team_id: &'a str,
    pub agent_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user: &'a str,
    pub tool_name: &'a str,
    pub tool_digest: &'a str,
    pub justification: &'a str,
    pub approver_role: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub decided_by: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub decision_reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub revoked_by: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub revoke_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<DateTime<Utc>>,
}

/// The body of a message (Standard Webhooks, "Payload structure").
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: String,
    data: &'a Subject<'a>,
}

/// Tells every webhook of the team, once the transaction is committed: they are told at least once.
pub(crate) async fn enqueue(
    connection: &mut store::Connection,
    news: News,
    subject: &Subject<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    let body = Body { r#type: news.as_str(), timestamp, data: subject };
    // Texts, ids and times are always JSON.
    let body = serde_json::to_string(&body).unwrap_or_default();
    store::deliveries_insert(connection, subject.team_id, &body, now).await
}

/// Writes a webhook, and gives the secret that signs what is sent to it from now on.
pub(crate) async fn put_webhook(
    database: &Database,
    seal: &Seal,
    destinations: &Destinations,
    caller: &Caller,
    (name, address): (&str, &str),
    now: DateTime<Utc>,
) -> Result<(WebhookRow, SecretString), Error> {
    names::name("name", name)?;
    if address.len() > MAX_URL {
        return Err(Error::invalid("url", format!("has more than {MAX_URL} characters")));
    }
    let url = destinations.check(address).map_err(|wrong| Error::invalid("url", wrong))?;
    let secret = Secret::random();
    let sealed = seal.seal(&caller.team, name, &secret).ok_or(Error::Sealing)?;
    let pool = database.pool()?;
    let mut transaction = pool.begin().await.map_err(StoreError::from)?;
    let new = NewWebhook { name, url: url.as_str(), secret: &sealed };
    let count = store::webhook_put(&mut transaction, &caller.team, new, now).await?;
    if count > MAX_WEBHOOKS {
        let description = format!("the team has {MAX_WEBHOOKS} webhooks already, the most; remove one first");
        return Err(Error::invalid("name", description));
    }
    // The path may hold a secret of the receiver's.
    let host = url.host_str().unwrap_or_default();
    let told = format!("webhook {name} is told of access requests, at {host}");
    trail::record(&mut transaction, &trail::event(Action::PolicyChanged, caller, told)).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    let there = store::webhook_list(pool, &caller.team).await?.into_iter().find(|there| there.name == name);
    Ok((there.ok_or_else(|| not_there(name))?, secret.text()))
}

/// The webhooks of the team.
pub(crate) async fn list_webhooks(database: &Database, team: &str) -> Result<Vec<WebhookRow>, Error> {
    Ok(store::webhook_list(database.pool()?, team).await?)
}

/// Removes a webhook, and what waits for it.
pub(crate) async fn remove_webhook(database: &Database, caller: &Caller, name: &str) -> Result<(), Error> {
    names::name("name", name)?;
    let mut transaction = database.pool()?.begin().await.map_err(StoreError::from)?;
    if !store::webhook_remove(&mut transaction, &caller.team, name).await? {
        return Err(not_there(name));
    }
    let told = format!("webhook {name} is told of nothing any more");
    trail::record(&mut transaction, &trail::event(Action::PolicyChanged, caller, told)).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(())
}

fn not_there(name: &str) -> Error {
    let hint = "list those there are: toolcrib webhooks list";
    Error::NotFound { what: "webhook", name: name.to_owned(), hint }
}
