//! A certificate authority of the test's own, and an HTTP server behind TLS that may want client certificates. Its
//! keys are made anew each time; none may be kept.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// A connection that says nothing for this long ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// An authority and its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate_pem: String,
    /// The key.
    pub key_pem: String,
}

impl Authority {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, types::new_id().to_string());
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this name or address.
    pub fn issue(&self, name: &str) -> Pair {
        self.issue_until(name, 2_099)
    }

    /// One that ended long ago.
    pub fn issue_expired(&self, name: &str) -> Pair {
        self.issue_until(name, 2_001)
    }

    fn issue_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2_000, 1, 1), date_time_ymd(year, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct TlsRequest {
    /// The line and the headers, each on a line of its own.
    pub head: String,
    /// The body.
    pub body: String,
}

/// The server, on 127.0.0.1. It ends with this value.
#[derive(Debug)]
pub struct TlsServer {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl TlsServer {
    /// Shows this certificate; with `clients`, lets in only who shows one of that authority. Answers each request with
    /// a status and JSON.
    pub fn start(
        pair: &Pair,
        clients: Option<&Authority>,
        answer: impl Fn(&TlsRequest) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (requests, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (config, answer) = (Arc::new(config(pair, clients)), Arc::new(answer));
        let (counter, stop) = (Arc::clone(&requests), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let (config, answer, counter) =
                    (Arc::clone(&config), Arc::clone(&answer), Arc::clone(&counter));
                // A client that is not content, or not let in, breaks off: that is what tests are about.
                std::thread::spawn(move || {
                    stream.and_then(|stream| serve(stream, config, &*answer, &counter))
                });
            }
        });
        Self { address, requests, is_over }
    }

    /// Requests that it took, after the handshake.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// The address of a path under this name.
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("https://{name}:{}{path}", self.address.port())
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that waits for connections.
        let _ = TcpStream::connect(self.address);
    }
}

fn config(pair: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(&authority.pem)).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    builder.with_single_cert(vec![certificate(&pair.certificate_pem)], key).expect("a pair")
}

/// One request and one answer a connection.
fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &(impl Fn(&TlsRequest) -> (u16, String) + ?Sized),
    requests: &AtomicUsize,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let socket = stream.try_clone()?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let served = read(&mut stream).and_then(|request| {
        requests.fetch_add(1, Ordering::AcqRel);
        let (status, body) = answer(&request);
        let head = format!("HTTP/1.1 {status} so\r\nconnection: close\r\ncontent-type: application/json");
        write!(stream.get_mut(), "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        stream.get_mut().conn.send_close_notify();
        stream.get_mut().flush()
    });
    // What the client sends meanwhile is read, or its loss would take the last words with it (RFC 9112, section 9.6).
    socket.shutdown(Shutdown::Write)?;
    io::copy(&mut &socket, &mut io::sink())?;
    served
}

fn read(stream: &mut impl BufRead) -> io::Result<TlsRequest> {
    let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        head.push_str(&line);
        line.clear();
    }
    if head.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(TlsRequest { head, body: String::from_utf8_lossy(&body).into_owned() })
}
