//! How many places one caller may have: calls of a key, and calls and bytes of an address while nobody knows yet whose
//! they are. Must never let one take what all others need, nor keep what has been given back.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rpc::{Details, ErrorReason, Full, ServiceError, Share, Shares};
use tonic::Status;
use types::{Caller, Kind};

use crate::{Config, admit};

/// An address, or all those of its site; `None`: it came over no socket.
pub(crate) type Site = Option<IpAddr>;

/// The site of whoever is at the other end of a socket.
pub(crate) fn site(peer: Option<SocketAddr>) -> Site {
    peer.map(|peer| rpc::site(peer.ip()))
}

/// When a place may be free again.
const RETRY: Duration = Duration::from_secs(1);

/// The places of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Calls that still arrive, or whose key is being asked for.
    unknown: Shares<Site>,
    /// Calls under way, by key.
    keys: Shares<String>,
    /// Bytes of messages that arrived in more than one piece, until they are passed on.
    bytes: Shares<Site>,
}

impl Places {
    pub(crate) fn new(config: &Config) -> Self {
        let (calls, bytes) = (config.max_concurrent_requests, config.max_arriving_bytes);
        Self {
            unknown: Shares::new((calls / 2).max(1), (calls / 4).max(1)),
            keys: Shares::new(calls, config.max_concurrent_requests_per_key),
            bytes: Shares::new(bytes, bytes / 4),
        }
    }

    /// A place for a call that nobody knows yet.
    pub(crate) fn unknown(&self, site: Site) -> Result<Share<Site>, Box<Status>> {
        let crowded = |full| match full {
            Full::One(most) => Crowded::Address(most),
            Full::All(most) => Crowded::Addresses(most),
        };
        self.unknown.take(site, 1).map_err(|full| crowded(full).status())
    }

    /// A place for a call of a key.
    pub(crate) fn of_key(&self, caller: &Caller) -> Result<Share<String>, Box<Status>> {
        let crowded = |(Full::One(most) | Full::All(most))| Crowded::Key(most);
        let key = format!("{}/{}", caller.team, admit::counted(caller));
        self.keys.take(key, 1).map_err(|full| crowded(full).status())
    }

    /// What `grow` gives bytes to.
    pub(crate) fn no_bytes(&self, site: Site) -> Result<Share<Site>, Box<Status>> {
        self.bytes.take(site, 0).map_err(too_many_bytes)
    }
}

/// So many bytes more of a message.
pub(crate) fn grow(share: &mut Share<Site>, bytes: usize) -> Result<(), Box<Status>> {
    share.grow(bytes).map_err(too_many_bytes)
}

fn too_many_bytes(full: Full) -> Box<Status> {
    match full {
        Full::One(most) => Crowded::BytesOfAddress(most).status(),
        Full::All(most) => Crowded::Bytes(most).status(),
    }
}

/// The refusal of who has as much as it may, or comes when all have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Crowded {
    #[error(
        "{0} calls of your address have not arrived whole or show a key that is not known yet, as many as may"
    )]
    Address(usize),
    #[error("{0} calls have not arrived whole or show a key that is not known yet, as many as may")]
    Addresses(usize),
    #[error("{0} calls of this API key are under way, as many as may")]
    Key(usize),
    #[error("messages of your address that still arrive have {0} bytes, as many as they may")]
    BytesOfAddress(usize),
    #[error("messages that still arrive have {0} bytes, as many as they may")]
    Bytes(usize),
    #[error("too many keys that are not known yet are being asked for")]
    Questions,
}

impl Crowded {
    pub(crate) fn status(&self) -> Box<Status> {
        Box::new(rpc::status(self))
    }
}

impl ServiceError for Crowded {
    fn kind(&self) -> Kind {
        Kind::Exhausted
    }

    fn reason(&self) -> ErrorReason {
        ErrorReason::Overloaded
    }

    fn public_message(&self) -> String {
        format!("{self}; try again in {} s", RETRY.as_secs())
    }

    fn details(&self) -> Details {
        Details { retry_after: Some(RETRY), ..Details::default() }
    }
}
