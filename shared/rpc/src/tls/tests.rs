//! Two processes over real sockets: who shows what, and who is let in.

use std::{convert::Infallible, fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status, body::Body};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{
    Link, ServerOptions, bind, local, remote, remote_secured, secured::MAX_HANDSHAKES_OF_ONE, serve,
};

/// An authority that issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for a name, valid until a year.
    fn issue(&self, name: &str, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2_000, 1, 1), date_time_ymd(until, 1, 1));
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// The files of a process.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(authority: &Authority, (certificate, key): (String, String)) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(files.path("ca.pem"), &authority.pem).unwrap();
        files.write(certificate, key);
        files
    }

    fn write(&self, certificate: String, key: String) {
        fs::write(self.path("tls.crt"), certificate).unwrap();
        fs::write(self.path("tls.key"), key).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mutual(&self) -> Result<Tls, String> {
        Tls::mutual(&self.path("tls.crt"), &self.path("tls.key"), &self.path("ca.pem"), "")
    }
}

/// A process that answers each call, and where it listens.
async fn process(tls: Option<Tls>) -> std::net::SocketAddr {
    let answer = service_fn(|_: http::Request<Body>| async {
        Ok::<_, Infallible>(Status::new(Code::AlreadyExists, "reached").into_http::<Body>())
    });
    let bound = bind(([127, 0, 0, 1], 0).into()).await.unwrap().secured(tls);
    let address = bound.address;
    let options = ServerOptions { accept_http1: false, max_connection_age: Duration::from_mins(5) };
    let (_, server) = serve(bound, local(answer), &options, std::future::pending()).unwrap();
    tokio::spawn(server);
    address
}

/// What a call is told.
async fn call(link: &Link) -> Code {
    let request = http::Request::builder()
        .uri("/toolcrib.audit.v1.AuditService/QueryTrail")
        .method("POST")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "5S");
    match link.clone().oneshot(request.body(Body::empty()).unwrap()).await {
        Ok(answer) => Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code()),
        Err(status) => status.code(),
    }
}

const REACHED: Code = Code::AlreadyExists;

fn link(server: std::net::SocketAddr, client: &Tls) -> Link {
    remote_secured("audit", &format!("https://localhost:{}", server.port()), client).unwrap()
}

#[tokio::test]
async fn processes_of_one_authority_reach_each_other_and_no_others_do() {
    let authority = Authority::new();
    let server = Files::new(&authority, authority.issue("localhost", 2_099));
    let address = process(Some(server.mutual().unwrap())).await;

    let client = Files::new(&authority, authority.issue("executor", 2_099)).mutual().unwrap();
    assert_eq!(call(&link(address, &client)).await, REACHED);

    // No certificate at all: neither in the clear nor over TLS.
    let clear = remote("audit", &format!("http://127.0.0.1:{}", address.port())).unwrap();
    assert_ne!(call(&clear).await, REACHED, "in the clear");
    let anonymous =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem)).domain_name("localhost");
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let channel = endpoint.tls_config(anonymous).unwrap().connect_lazy();
    let request = http::Request::builder().uri("/").body(Body::empty()).unwrap();
    assert!(channel.oneshot(request).await.is_err(), "without a certificate");

    // Of another authority, though the server is known.
    let foreign = Authority::new();
    let stranger = Files::new(&foreign, foreign.issue("executor", 2_099));
    fs::write(stranger.path("ca.pem"), format!("{}{}", foreign.pem, authority.pem)).unwrap();
    assert_ne!(call(&link(address, &stranger.mutual().unwrap())).await, REACHED, "a foreign authority");

    // The client takes no server of another authority, nor one of another name.
    let strange_server = Files::new(&foreign, foreign.issue("localhost", 2_099));
    let strange_address = process(Some(strange_server.mutual().unwrap())).await;
    assert_ne!(call(&link(strange_address, &client)).await, REACHED, "a foreign server");
    let other_name = Files::new(&authority, authority.issue("registry", 2_099));
    let other_address = process(Some(other_name.mutual().unwrap())).await;
    assert_ne!(call(&link(other_address, &client)).await, REACHED, "a server of another name");
    let client = Files::new(&authority, authority.issue("executor", 2_099));
    let named =
        Tls::mutual(&client.path("tls.crt"), &client.path("tls.key"), &client.path("ca.pem"), "registry");
    assert_eq!(call(&link(other_address, &named.unwrap())).await, REACHED, "the name that is expected");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_the_other_side_too() {
    let authority = Authority::new();
    let server = Files::new(&authority, authority.issue("localhost", 2_099));
    let address = process(Some(server.mutual().unwrap())).await;
    let (certificate, key) = authority.issue("executor", 2_001);
    let expired = Files::new(&authority, (certificate.clone(), key.clone()));
    let fault = expired.mutual().unwrap_err();
    assert!(fault.contains("tls.crt: is valid from") && fault.contains("2001"), "{fault}");

    // A process that would not look itself.
    let shown = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&authority.pem))
        .identity(Identity::from_pem(certificate, key))
        .domain_name("localhost");
    let endpoint =
        tonic::transport::Endpoint::from_shared(format!("https://localhost:{}", address.port())).unwrap();
    let channel = endpoint.tls_config(shown).unwrap().connect_lazy();
    let request = http::Request::builder().uri("/").body(Body::empty()).unwrap();
    assert!(channel.oneshot(request).await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
    let (before, after) = (Authority::new(), Authority::new());
    let files = Files::new(&before, before.issue("localhost", 2_099));
    let server = files.mutual().unwrap();
    let address = process(Some(server.clone())).await;
    let old = Files::new(&before, before.issue("executor", 2_099));
    let client = old.mutual().unwrap();
    let link = link(address, &client);
    assert_eq!(call(&link).await, REACHED);
    assert_eq!(server.renew(), Ok(false), "nothing changed");

    // Half written, expired, or of another authority: the one before stays.
    let (certificate, key) = before.issue("localhost", 2_099);
    fs::write(files.path("tls.crt"), &certificate).unwrap();
    assert!(server.renew().unwrap_err().contains("does not go with"));
    for (certificate, key) in [before.issue("localhost", 2_001), after.issue("localhost", 2_099)] {
        files.write(certificate, key);
        assert!(server.renew().is_err());
    }
    files.write(String::new(), String::new());
    assert!(server.renew().is_err());
    assert_eq!(call(&link).await, REACHED, "the one before it goes on serving");

    // A sound one of the same authority, then another authority on both sides.
    files.write(certificate, key);
    assert_eq!(server.renew(), Ok(true));
    assert_eq!(call(&link).await, REACHED);
    let (certificate, key) = after.issue("localhost", 2_099);
    files.write(certificate, key);
    fs::write(files.path("ca.pem"), &after.pem).unwrap();
    assert_eq!(server.renew(), Ok(true));
    let late =
        super::super::remote_secured("audit", &format!("https://localhost:{}", address.port()), &client);
    assert_ne!(call(&late.unwrap()).await, REACHED, "new connections are of the new authority");
    let (certificate, key) = after.issue("executor", 2_099);
    old.write(certificate, key);
    fs::write(old.path("ca.pem"), &after.pem).unwrap();
    assert_eq!(client.renew(), Ok(true));
    // The link hears of it on its own and connects anew.
    let again = async {
        while call(&link).await != REACHED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_shakes_hands_holds_up_no_other() {
    let authority = Authority::new();
    let server = Files::new(&authority, authority.issue("localhost", 2_099));
    let tls = server.mutual().unwrap();
    let address = process(Some(tls.clone())).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(call(&link(address, &tls)).await, REACHED);
    let mut rude = tokio::net::TcpStream::connect(address).await.unwrap();
    rude.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = rude.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "nothing is served in the clear");
}

#[test]
fn a_fault_names_the_file_and_never_the_key() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost", 2_099);
    let files = Files::new(&authority, (certificate, key.clone()));
    let fault = |files: &Files| files.mutual().unwrap_err();
    fs::write(files.path("ca.pem"), "").unwrap();
    assert!(fault(&files).contains("ca.pem: holds no certificate"), "{}", fault(&files));
    fs::write(files.path("ca.pem"), &authority.pem).unwrap();
    fs::write(files.path("tls.key"), "no key").unwrap();
    assert!(fault(&files).contains("tls.key: holds no key"), "{}", fault(&files));
    fs::remove_file(files.path("tls.crt")).unwrap();
    assert!(fault(&files).contains("tls.crt: cannot be read"), "{}", fault(&files));
    let other = Authority::new();
    let (other_certificate, _) = authority.issue("localhost", 2_099);
    let mixed = Files::new(&authority, (other_certificate, key.clone()));
    assert!(!fault(&mixed).contains(&key) && fault(&mixed).contains("tls.key"), "{}", fault(&mixed));
    let foreign = Files::new(&authority, other.issue("localhost", 2_099));
    assert!(fault(&foreign).contains("is not taken by the authority"), "{}", fault(&foreign));
    let shown =
        format!("{:?}", Files::new(&authority, authority.issue("localhost", 2_099)).mutual().unwrap());
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

/// A connection to a server from one of this machine's own addresses.
async fn connect_from(from: [u8; 4], to: std::net::SocketAddr) -> tokio::net::TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the server shakes hands over a connection.
async fn is_shaken(connection: tokio::net::TcpStream, authority: &Authority, own: &Files) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let chain = CertificateDer::pem_file_iter(own.path("tls.crt")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(own.path("tls.key")).unwrap();
    let mut client = client.unwrap().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let name = "localhost".try_into().unwrap();
    let shaken = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, connection).await;
    // With TLS 1.3 the client is done first: the server has taken it once it says something.
    let Ok(mut shaken) = shaken else { return false };
    shaken.read_u8().await.is_ok()
}

#[tokio::test]
async fn an_address_that_is_silent_has_a_part_of_the_handshakes_and_others_have_theirs() {
    let authority = Authority::new();
    let files = Files::new(&authority, authority.issue("localhost", 2_099));
    let address = process(Some(files.mutual().unwrap())).await;
    let patience = Duration::from_secs(9);
    let shaken_from = async |from| {
        let shaken = is_shaken(connect_from(from, address).await, &authority, &files);
        tokio::time::timeout(patience, shaken).await.expect("it is answered before the silent are given up")
    };
    let (silent_one, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    assert!(shaken_from(silent_one).await);
    let mut silent = Vec::new();
    for _ in 0..MAX_HANDSHAKES_OF_ONE {
        silent.push(connect_from(silent_one, address).await);
    }
    // One more is closed at once, and nothing is said.
    let mut more = connect_from(silent_one, address).await;
    let closed = tokio::time::timeout(patience, more.read(&mut [0])).await.expect("it is closed");
    assert!(!closed.is_ok_and(|read| read > 0));
    assert!(!shaken_from(silent_one).await);
    assert!(shaken_from(other).await, "another address has its own");
    drop(silent);
    let room = async {
        while !shaken_from(silent_one).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(patience, room).await.expect("those that end make room");
}
