//! The method Execute without the rest of its service: so that a rung, and an echo, can stand where the executor does,
//! at the cost of generated code and no more.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use proto::executor::v1::{ExecuteRequest, ExecuteResponse};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::{Server, server::TcpIncoming},
};
use tower::{Service, service_fn};

/// An answer on its way.
pub type Answer = BoxFuture<'static, Result<Response<ExecuteResponse>, Status>>;

/// A handler of Execute, as a service of that name.
#[derive(Clone)]
pub struct Execute(Arc<dyn Fn(Request<ExecuteRequest>) -> Answer + Send + Sync>);

impl Execute {
    /// From its handler.
    pub fn new(handler: impl Fn(Request<ExecuteRequest>) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(handler))
    }

    /// Serves it with tonic alone, until the process ends; gives where.
    pub async fn serve(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Server::builder().add_service(self).serve_with_incoming(incoming));
        address
    }
}

impl NamedService for Execute {
    const NAME: &'static str = executor::SERVICE;
}

impl Service<http::Request<Body>> for Execute {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<ExecuteResponse, ExecuteRequest>::default();
            Ok(Grpc::new(codec).unary(service_fn(move |request| handler(request)), request).await)
        })
    }
}
