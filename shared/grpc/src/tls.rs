//! TLS of a connection, and what was wrong with its certificates. A server refuses a client's certificate when calls are
//! under way already and closes (RFC 8446, section 4.4.2.4); HTTP/2 then keeps no more than that the connection broke. So
//! the fault is noted where it is read. Must never put a piece of a certificate or key into an error.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use reach::{Authorities, CertificateFault};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::Security;

/// What a connection shows, and what it takes.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For a server of this name or address. `others` are the authorities that are trusted besides the system's.
    pub(crate) fn new(host: &str, security: &Security, others: &Authorities) -> Result<Self, String> {
        let host = host.trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| "the host has no name that a certificate can be for")?;
        let mut roots = RootCertStore::empty();
        let pem = if let Some(own) = &security.authorities {
            Some(own.as_str())
        } else {
            // What cannot be read there is not ours to tell; where nothing can, no server is trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            others.pem()
        };
        if let Some(pem) = pem {
            roots.add_parsable_certificates(
                certificates(pem).ok_or("the authorities are not PEM throughout")?,
            );
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| "no version of TLS can be spoken")?
            .with_root_certificates(roots);
        let mut config = match &security.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let pair = certificates(chain).zip(PrivateKeyDer::from_pem_slice(key.as_bytes()).ok());
                let config = pair.and_then(|(chain, key)| builder.with_client_auth_cert(chain, key).ok());
                config.ok_or("the client certificate and its key cannot be used together")?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config), name })
    }

    /// Secures a connection. What is wrong with a certificate later on is noted in `fault`.
    pub(crate) async fn secure(&self, stream: TcpStream, fault: Fault) -> io::Result<Socket> {
        let stream = Patient(stream);
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2 over TLS"));
        }
        Ok(Socket::Secure(Box::new(stream), fault))
    }
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()
}

/// What was wrong with a certificate of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<CertificateFault>>>);

impl Fault {
    pub(crate) fn get(&self) -> Option<CertificateFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, read: &Poll<io::Result<()>>) {
        if let Poll::Ready(Err(error)) = read
            && let Some(fault) = CertificateFault::of(error)
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        }
    }
}

/// A connection, secured or not.
pub(crate) enum Socket {
    Plain(TcpStream),
    Secure(Box<TlsStream<Patient>>, Fault),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream, fault) => {
                let read = Pin::new(stream).poll_read(cx, buffer);
                fault.note(&read);
                read
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream, _) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A stream whose writes do not fail when the other side has closed: what it said last is still to be read, and the
/// reading ends by itself after that.
pub(crate) struct Patient(TcpStream);

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.get_mut().0).poll_write(cx, bytes) {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Poll::Ready(Ok(bytes.len()))
            }
            other => other,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
