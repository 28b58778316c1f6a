//! TLS between processes: each shows a certificate of one authority and takes only those who show one as well. Renewed
//! files are taken without a restart. Must never let a connection through that shows no certificate where one is asked
//! for, nor put a key into an error or a log.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How often files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where certificates are, each a file of PEM blocks.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// This process's certificate, those of intermediate authorities after it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that whoever connects must have a certificate of; `None`: nobody has to show one.
    pub clients: Option<PathBuf>,
}

/// What a process shows and asks for, as its files are now. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Kept>);

struct Kept {
    files: TlsFiles,
    /// Whether the same authorities stand for the servers that this process calls, and its certificate for itself there.
    is_mutual: bool,
    server_name: String,
    current: watch::Sender<Arc<Material>>,
}

/// The files, read.
pub(crate) struct Material {
    digest: [u8; 32],
    pub server: Arc<ServerConfig>,
    client: ClientTlsConfig,
}

impl Tls {
    /// Between processes of the suite: certificates on both sides, all of one authority. Servers are expected to have
    /// the name under which they are called, or this one where it is not empty. The error names the file.
    pub fn mutual(certificate: &Path, key: &Path, ca: &Path, server_name: &str) -> Result<Self, String> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let files = TlsFiles { certificate, key, clients: Some(ca.to_owned()) };
        Self::read(files, true, server_name)
    }

    /// For a port to the outside, HTTP/1.1 included.
    pub fn public(files: TlsFiles) -> Result<Self, String> {
        Self::read(files, false, "")
    }

    fn read(files: TlsFiles, is_mutual: bool, server_name: &str) -> Result<Self, String> {
        let material = Material::read(&files, is_mutual)?;
        let current = watch::Sender::new(Arc::new(material));
        Ok(Self(Arc::new(Kept { files, is_mutual, server_name: server_name.to_owned(), current })))
    }

    /// Takes the files as they are now, if they changed; tells whether they did. What was there before stays where they
    /// are not sound, as while they are being written.
    pub fn renew(&self) -> Result<bool, String> {
        let material = Material::read(&self.0.files, self.0.is_mutual)?;
        let is_new = material.digest != self.0.current.borrow().digest;
        if is_new {
            self.0.current.send_replace(Arc::new(material));
        }
        Ok(is_new)
    }

    /// Looks at the files every minute, without end.
    pub async fn keep_fresh(self) {
        let mut last_fault = String::new();
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            let files = self.clone();
            let renewed = tokio::task::spawn_blocking(move || files.renew()).await;
            let renewed = renewed.unwrap_or_else(|_| Err("cannot be read now".to_owned()));
            let file = self.0.files.certificate.display();
            match renewed {
                Ok(true) => tracing::info!(tls.certificate_file = %file, "a renewed certificate is in use"),
                Ok(false) => last_fault.clear(),
                Err(fault) if fault != last_fault => {
                    tracing::error!(
                        fault,
                        "a renewed certificate cannot be used; the one before it goes on serving"
                    );
                    last_fault = fault;
                }
                Err(_) => {}
            }
        }
    }

    /// Whether nobody outside of the suite connects.
    pub(crate) fn is_mutual(&self) -> bool {
        self.0.is_mutual
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.borrow().server)
    }

    /// How to call a server of this name now.
    pub(crate) fn client(&self, host: &str) -> ClientTlsConfig {
        let name = if self.0.server_name.is_empty() { host } else { &self.0.server_name };
        self.0.current.borrow().client.clone().domain_name(name)
    }

    /// Tells of renewals.
    pub(crate) fn renewals(&self) -> watch::Receiver<Arc<Material>> {
        self.0.current.subscribe()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Material {
    fn read(files: &TlsFiles, is_mutual: bool) -> Result<Self, String> {
        let certificate = Pem::read(&files.certificate)?;
        let key = Pem::read(&files.key)?;
        let clients = files.clients.as_deref().map(Pem::read).transpose()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = certificate.certificates()?;
        is_in_time(&chain).map_err(|fault| certificate.fault(fault))?;
        let verifier = clients.as_ref().map(|clients| verifier(clients, &provider)).transpose()?;
        if let Some(verifier) = verifier.as_ref().filter(|_| is_mutual) {
            let (own, others) =
                chain.split_first().ok_or_else(|| certificate.fault("holds no certificate"))?;
            verifier
                .verify_client_cert(own, others, UnixTime::now())
                .map_err(|error| certificate.fault(format!("is not taken by the authority: {error}")))?;
        }
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let private = PrivateKeyDer::from_pem_slice(&key.bytes)
            .map_err(|_| key.fault("holds no key in PEM form (-----BEGIN PRIVATE KEY-----)"))?;
        let mut server = builder.with_single_cert(chain, private).map_err(|error| {
            key.fault(format!("does not go with {}: {error}", files.certificate.display()))
        })?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        if !is_mutual {
            server.alpn_protocols.push(b"http/1.1".to_vec());
        }
        // A connection that goes on from an earlier one would not show its certificate again.
        (server.session_storage, server.send_tls13_tickets) = (Arc::new(NoServerSessionStorage {}), 0);
        let mut client = ClientTlsConfig::new().identity(Identity::from_pem(&certificate.bytes, &key.bytes));
        let mut digest = Sha256::new();
        for part in [Some(&certificate), Some(&key), clients.as_ref()].into_iter().flatten() {
            digest.update(Sha256::digest(&part.bytes));
        }
        if let Some(clients) = clients {
            client = client.ca_certificate(Certificate::from_pem(clients.bytes));
        }
        Ok(Self { digest: digest.finalize().into(), server: Arc::new(server), client })
    }
}

/// Lets in whoever has a certificate of these authorities.
fn verifier(
    clients: &Pem<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in clients.certificates()? {
        roots
            .add(authority)
            .map_err(|error| clients.fault(format!("has a certificate that is none: {error}")))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| clients.fault(error))
}

/// Whether the first certificate may be used now.
fn is_in_time(chain: &[CertificateDer<'_>]) -> Result<(), String> {
    let own = chain.first().ok_or("holds no certificate")?;
    let (_, own) =
        X509Certificate::from_der(own).map_err(|error| format!("holds no certificate: {error}"))?;
    let validity = own.validity();
    if validity.is_valid() {
        return Ok(());
    }
    Err(format!("is valid from {} to {} only", validity.not_before, validity.not_after))
}

/// A file of PEM blocks (RFC 7468).
struct Pem<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> Pem<'a> {
    fn read(path: &'a Path) -> Result<Self, String> {
        let read = || -> io::Result<Vec<u8>> {
            if std::fs::metadata(path)?.len() > MAX_BYTES {
                return Err(io::Error::other(format!("has more than {MAX_BYTES} bytes")));
            }
            std::fs::read(path)
        };
        let bytes = read().map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        Ok(Self { path, bytes })
    }

    /// Its certificates, at least one.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.fault(format!("is not PEM throughout: {error}")))?;
        if found.is_empty() {
            return Err(self.fault("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
        }
        Ok(found)
    }

    fn fault(&self, what: impl fmt::Display) -> String {
        format!("{}: {what}", self.path.display())
    }
}

#[cfg(test)]
mod tests;
