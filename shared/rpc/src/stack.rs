//! What stands around every service, whether it is reached over a socket or linked in process.
//!
//! In this order: panic guard, trace and metrics, caller, access, load shedding, message size, deadline.
//! A handler therefore knows that its caller is verified, and may not do any of this again.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, service::Routes};
use tower::{ServiceExt, service_fn};
use types::{Caller, Kind};

use crate::{
    CALLER_HEADER, Call, ErrorReason, Lack, Link, Observer, TokenKey, access_of, body_limit, deadline, link,
    status_with_reason, trace,
};

/// What a stack needs.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Verifies caller tokens.
    pub key: TokenKey,
    /// Calls handled at once; one more is refused.
    pub max_concurrent_requests: usize,
}

struct Stack {
    routes: Routes,
    options: StackOptions,
    permits: Arc<Semaphore>,
    observer: Observer,
}

/// Wraps a service's routes. The link can be called in process and served over a socket alike.
pub fn stack(routes: Routes, options: StackOptions) -> Link {
    let permits = Arc::new(Semaphore::new(options.max_concurrent_requests));
    let stack = Arc::new(Stack { routes: routes.prepare(), options, permits, observer: Observer::new() });
    link::local(service_fn(move |request| {
        let stack = Arc::clone(&stack);
        async move { Ok::<_, Infallible>(stack.observer.observe(request, |request| stack.admit(request)).await) }
    }))
}

impl Stack {
    /// Caller, access, load, size, deadline; then the handler.
    async fn admit(&self, mut request: Request<Body>) -> Result<Response<Body>, Box<Status>> {
        let caller = self.caller(&request)?;
        let access = access_of(request.uri().path()).ok_or_else(|| unknown_method(request.uri().path()))?;
        access.admits(&caller).map_err(|lack| refused(&caller, lack))?;
        let _permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| overloaded())?;
        let timeout = deadline::kept(deadline::timeout_of(request.headers()));
        let deadline = Instant::now() + timeout;
        // tonic would enforce it a second time, and answer CANCELLED.
        request.headers_mut().remove("grpc-timeout");
        request.extensions_mut().insert(Call { caller, deadline, trace_id: trace::current_trace_id() });
        let (parts, body) = request.into_parts();
        let run = async {
            let body = body_limit::check(body).await?;
            Ok(self.routes.clone().oneshot(Request::from_parts(parts, body)).await)
        };
        match tokio::time::timeout(timeout, run).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(status)) => Err(Box::new(status)),
            Err(_) => Err(Box::new(past_deadline(timeout))),
        }
    }

    fn caller(&self, request: &Request<Body>) -> Result<Caller, Box<Status>> {
        let token = request.headers().get(CALLER_HEADER).and_then(|value| value.to_str().ok());
        token.and_then(|token| self.options.key.verify(token)).ok_or_else(|| {
            let message = "this port takes calls from the suite only; call the edge with an API key";
            Box::new(status_with_reason(Kind::Unauthenticated, ErrorReason::Unauthenticated, message))
        })
    }
}

/// UNIMPLEMENTED for a path that is no RPC.
pub fn unknown_method(path: &str) -> Box<Status> {
    let message = format!("there is no method {path}; list them by reflection, with `grpcurl list`");
    Box::new(Status::unimplemented(message))
}

/// PERMISSION_DENIED for a caller who may not use an RPC; it says what is lacking.
pub fn refused(caller: &Caller, lack: Lack) -> Box<Status> {
    let role = caller.role.as_str();
    let (reason, message) = match lack {
        Lack::Service => {
            (ErrorReason::RoleRequired, "this method is for services of the suite alone".to_owned())
        }
        Lack::Role(needed) => {
            let needed = needed.as_str();
            (
                ErrorReason::RoleRequired,
                format!("role {role} may not use this method; it needs role {needed}"),
            )
        }
        Lack::Scope(needed) => {
            let needed = needed.as_str();
            let message =
                format!("the key may not be used for this method; it needs a key with scope {needed}");
            (ErrorReason::ScopeRequired, message)
        }
    };
    Box::new(status_with_reason(Kind::Denied, reason, message))
}

fn overloaded() -> Box<Status> {
    let message = "the service handles as many calls as it may; try again";
    Box::new(status_with_reason(Kind::Unavailable, ErrorReason::Overloaded, message))
}

fn past_deadline(timeout: Duration) -> Status {
    let message = format!("not done within {timeout:?}; a call that started goes on and is recorded");
    status_with_reason(Kind::Deadline, ErrorReason::DeadlineExceeded, message)
}

#[cfg(test)]
mod tests {
    use proto::audit::v1::{
        AppendEventsRequest, AppendEventsResponse, QueryTrailRequest, QueryTrailResponse,
        audit_service_client::AuditServiceClient,
        audit_service_server::{AuditService, AuditServiceServer},
    };
    use tonic::{Code, Response};

    use super::*;
    use crate::{Outgoing, ServerOptions, bind, reason_of, remote, serve};

    /// Never answers; fails where it may not be reached at all.
    struct Slow;

    #[tonic::async_trait]
    impl AuditService for Slow {
        async fn append_events(
            &self,
            _: tonic::Request<AppendEventsRequest>,
        ) -> Result<Response<AppendEventsResponse>, Status> {
            std::future::pending().await
        }

        async fn query_trail(
            &self,
            _: tonic::Request<QueryTrailRequest>,
        ) -> Result<Response<QueryTrailResponse>, Status> {
            panic!("a fault of the handler")
        }
    }

    /// In process, on a socket, and on a socket behind a socket that only passes on.
    async fn links(key: &TokenKey) -> [Link; 3] {
        let options = StackOptions { key: key.clone(), max_concurrent_requests: 8 };
        let local = stack(Routes::new(AuditServiceServer::new(Slow)), options);
        let near = served(local.clone()).await;
        let far = served(near.clone()).await;
        [local, near, far]
    }

    async fn served(link: Link) -> Link {
        let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let peer = format!("http://{}", bound.address);
        let options = ServerOptions { accept_http1: false, max_connection_age: Duration::from_mins(1) };
        let (_, server) = serve(bound, link, &options, std::future::pending()).unwrap();
        tokio::spawn(server);
        remote("audit", &peer).unwrap()
    }

    #[tokio::test]
    async fn a_deadline_is_called_one_however_far_away_it_passes() {
        let key = TokenKey::new(&"s".repeat(32).into());
        for link in links(&key).await {
            for _ in 0..10 {
                let time = Duration::from_millis(150);
                let request =
                    Outgoing::new("tests", key.clone()).own_request(time, AppendEventsRequest::default());
                let started = Instant::now();
                let status = AuditServiceClient::new(link.clone()).append_events(request).await.unwrap_err();
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
                assert_eq!(reason_of(&status), Some(ErrorReason::DeadlineExceeded), "{status:?}");
                assert!(started.elapsed() >= Duration::from_millis(130), "{:?}", started.elapsed());
            }
        }
    }

    #[tokio::test]
    async fn a_panic_and_a_caller_without_a_token_get_their_answers() {
        let key = TokenKey::new(&"s".repeat(32).into());
        for link in links(&key).await {
            let request = Outgoing::new("tests", key.clone())
                .own_request(Duration::from_secs(9), QueryTrailRequest::default());
            let mut client = AuditServiceClient::new(link);
            let status = client.query_trail(request).await.unwrap_err();
            assert_eq!((status.code(), reason_of(&status)), (Code::Internal, Some(ErrorReason::Internal)));
            assert!(!status.message().contains("fault of the handler"));
            let status = client.append_events(AppendEventsRequest::default()).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        }
    }
}
