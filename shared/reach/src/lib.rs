//! Which addresses a tool may reach. A name is resolved once a connection, its addresses are checked, and the
//! connection goes to a checked address; `authorities.rs` says whose certificates it takes, `certificate.rs` what was
//! wrong with one. Must never let an address through by its spelling, nor connect anywhere itself.

mod authorities;
mod certificate;

pub use authorities::Authorities;
pub use certificate::CertificateFault;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Ports of other protocols, which an HTTP request could be made to speak to ("bad ports" of the Fetch
/// standard, section 2.9, port blocking).
const BAD_PORTS: [u16; 84] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211,
];

/// Finds the addresses of a name. The system's resolver, or one that a test controls.
pub trait Lookup: Send + Sync + fmt::Debug {
    /// Every address of the name, in the order in which they are to be tried.
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) },
        )
    }
}

/// How far a tool may reach.
#[derive(Debug, Clone, Copy)]
pub enum Reach {
    /// The addresses for which this holds, under names and on ports of the public internet.
    Only(fn(IpAddr) -> bool),
    /// Any address.
    Any,
}

impl Reach {
    /// Globally reachable addresses.
    pub const PUBLIC: Self = Self::Only(is_public);

    fn covers(self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(holds) => holds(address),
        }
    }

    /// Refuses an address by what it says itself: its scheme, user, port and host.
    ///
    /// An address in the URL itself never reaches the resolver, so it is checked here. `Url` has turned the
    /// decimal, octal and hexadecimal forms into plain addresses already (WHATWG URL, host parsing).
    pub fn check(self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return refused(format!("only http and https addresses may be reached, not {}", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("an address may not hold a user or a password".to_owned());
        }
        let is_restricted = matches!(self, Self::Only(_));
        if let Some(port) = url.port().filter(|port| is_restricted && BAD_PORTS.contains(port)) {
            return refused(format!("port {port} is not one of HTTP; this tool may not reach it"));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) if is_restricted && is_local_name(name) => {
                return refused(
                    "localhost is not a public address; this tool may reach public ones only".into(),
                );
            }
            Some(Host::Domain(_)) => return Ok(()),
            None => return refused("the address names no host".to_owned()),
        };
        if self.covers(literal) {
            return Ok(());
        }
        refused(format!("{literal} is not a public address; this tool may reach public ones only"))
    }
}

fn refused(message: String) -> Result<(), Refused> {
    Err(Refused(message))
}

/// Names that stand for the machine itself, whatever a resolver says (RFC 6761, section 6.3).
fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// Resolves names to the addresses that may be reached, and to nothing else.
#[derive(Debug, Clone)]
pub struct Guard {
    /// How far.
    pub reach: Reach,
    /// Who says what a name stands for.
    pub lookup: Arc<dyn Lookup>,
    /// Whose certificates a connection takes besides those that the system trusts.
    pub authorities: Authorities,
}

/// An address that is off limits, or a name all of whose addresses are; the text says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Guard {
    /// The system's resolver, and this reach.
    pub fn system(reach: Reach) -> Self {
        Self { reach, lookup: Arc::new(SystemLookup), authorities: Authorities::default() }
    }

    /// The same, with authorities besides the system's.
    #[must_use]
    pub fn trusting(self, authorities: &Authorities) -> Self {
        Self { authorities: authorities.clone(), ..self }
    }

    /// The addresses of a name that may be reached, in the order in which they are to be tried. Fails by
    /// [`Refused`] where there is none among those it has, and by the resolver's error.
    pub async fn addresses(
        &self,
        name: &str,
    ) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.lookup.lookup(name).await?;
        let allowed: Vec<IpAddr> = found.into_iter().filter(|address| self.reach.covers(*address)).collect();
        if allowed.is_empty() {
            let told = format!("{name} has no public address; this tool may reach public ones only");
            return Err(Refused(told).into());
        }
        Ok(allowed)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let allowed = guard.addresses(name.as_str()).await?;
            // The port is the URL's.
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

/// Whether an address is globally reachable, by the IANA special-purpose address registries.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)                                      // this network, private, loopback, multicast, reserved
            | (172, 16..=31, _) | (192, 168, _) | (169, 254, _)         // private, link-local
            | (100, 64..=127, _) | (198, 18..=19, _)                    // shared, benchmarking
            | (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113)          // protocol assignments, documentation
            | (192, 88, 99) // 6to4 relay anycast
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Addresses that carry an IPv4 address: mapped, NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // IETF protocol assignments with Teredo, and documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public_in_any_disguise() {
        let special = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
            "fec0::1",
        ];
        for address in special {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in
            ["93.184.216.34", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::808:808"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn names_of_the_machine_itself_are_known_and_no_others() {
        for name in ["localhost", "localhost.", "a.localhost", "LOCALHOST", "a.b.localhost."] {
            assert!(is_local_name(name), "{name}");
        }
        for name in ["localhost.example.com", "notlocalhost", "example.com."] {
            assert!(!is_local_name(name), "{name}");
        }
    }

    #[test]
    fn what_may_be_reached_anywhere_needs_no_public_address_but_is_http_all_the_same() {
        let check = |reach: Reach, url: &str| reach.check(&url.parse().unwrap());
        assert!(check(Reach::Any, "http://127.0.0.1:22/").is_ok());
        assert!(check(Reach::Any, "file:///etc/passwd").is_err());
        assert!(check(Reach::PUBLIC, "https://example.com:8443/").is_ok());
        assert!(check(Reach::PUBLIC, "http://example.com:22/").is_err());
    }
}
