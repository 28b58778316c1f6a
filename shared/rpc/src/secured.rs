//! Connections that were secured before anybody serves them. Must never hand over one whose handshake failed, nor let one
//! that is slow hold up another, nor one address keep the port from the rest.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::{Shares, Tls, site};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the queue of the system.
const MAX_HANDSHAKES: usize = 1_024;
/// How many of them one address may have, or one site of IPv6: whoever connects and says nothing closes the port to
/// nobody else.
pub(crate) const MAX_HANDSHAKES_OF_ONE: usize = MAX_HANDSHAKES / 8;
/// Pause after the system could give no connection, as without file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection after its handshake.
#[derive(Debug)]
pub(crate) struct Secured(TlsStream<TcpStream>);

/// The connections of a port, each once it is secured, until the stream is dropped.
pub(crate) fn incoming(listener: TcpListener, tls: Tls) -> impl Stream<Item = io::Result<Secured>> {
    let (ready, accepted) = mpsc::channel(64);
    tokio::spawn(accept(listener, tls, ready));
    stream::unfold(accepted, |mut accepted| async { Some((Ok(accepted.recv().await?), accepted)) })
}

async fn accept(listener: TcpListener, tls: Tls, ready: mpsc::Sender<Secured>) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let shares = Shares::new(MAX_HANDSHAKES, MAX_HANDSHAKES_OF_ONE);
    loop {
        let permit = Arc::clone(&handshakes).acquire_owned().await.expect("never closed");
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((connection, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(share) = shares.take(site(peer.ip()), 1) else {
            tracing::debug!(%peer, "a connection was refused: its address has as many handshakes as it may");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if let Some(secured) = shake(&tls, connection, peer).await {
                drop((permit, share));
                // Nobody takes it any more once the port is closed.
                let _ = ready.send(secured).await;
            }
        });
    }
}

async fn shake(tls: &Tls, connection: TcpStream, peer: SocketAddr) -> Option<Secured> {
    // One without it works as well, only later.
    let _ = connection.set_nodelay(true);
    let shaken = TlsAcceptor::from(tls.server()).accept(connection);
    let why = match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaken).await {
        Ok(Ok(secured)) => return Some(Secured(secured)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
    };
    if tls.is_mutual() {
        tracing::warn!(%peer, why, "a connection was refused");
    } else {
        tracing::debug!(%peer, why, "a connection was refused");
    }
    None
}

impl Connected for Secured {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.0.get_ref().0.connect_info()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
