//! An answer whose connection breaks in its midst: it ends with a Status, as every answer does, and that says that
//! the outcome is not known. Must never turn a break into an end that looks whole.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use tonic::{Status, body::Body};
use types::Kind;

use crate::{Details, ErrorReason, status::status_with_details};

/// UNAVAILABLE for a request that was sent, or may have been, and has no whole answer.
pub(crate) fn outcome_unknown(service: &str) -> Status {
    let message = format!(
        "the connection to the {service} service broke after the request was sent: whether it was done is not \
         known; repeat it with the same request_id, or ask what became of it (GetExecution)"
    );
    let mut details = Details::default();
    details.metadata.insert("service".into(), service.to_owned());
    status_with_details(Kind::Unavailable, ErrorReason::OutcomeUnknown, &message, details)
}

/// The same answer, whose break is told as a Status.
pub(crate) fn told(service: &'static str, response: Response<Body>) -> Response<Body> {
    // Its Status stands in the headers already: no body follows.
    if response.headers().contains_key(Status::GRPC_STATUS) {
        return response;
    }
    response.map(|body| Body::new(Told { service, body, has_ended: false }))
}

/// A body that always ends with trailers.
struct Told {
    service: &'static str,
    body: Body,
    has_ended: bool,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let cause = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                self.has_ended = frame.is_trailers();
                return Poll::Ready(Some(Ok(frame)));
            }
            Some(Err(error)) => error.to_string(),
            None => "it ended without a status".to_owned(),
        };
        self.has_ended = true;
        tracing::warn!(
            rpc.service = self.service,
            error = cause,
            "a peer broke off in the midst of an answer"
        );
        let (status, mut trailers) = (outcome_unknown(self.service), HeaderMap::new());
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::{StreamExt, stream};
    use http::Request;
    use http_body_util::{BodyExt, StreamBody};
    use proto::audit::v1::{AppendEventsRequest, audit_service_client::AuditServiceClient};
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::Notify,
    };
    use tonic::Code;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{Link, ServerOptions, bind, local, reason_of, remote, serve};

    async fn served(link: Link) -> String {
        let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let peer = format!("http://{}", bound.address);
        let options = ServerOptions { accept_http1: false, max_connection_age: Duration::from_mins(1) };
        let (_, server) = serve(bound, link, &options, std::future::pending()).unwrap();
        tokio::spawn(server);
        peer
    }

    /// An address that passes bytes on to another until it is cut.
    async fn cable(peer: &str, cut: Arc<Notify>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, peer) = (listener.local_addr().unwrap(), peer.trim_start_matches("http://").to_owned());
        tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut far = TcpStream::connect(peer).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = cut.notified() => {}
            }
        });
        format!("http://{address}")
    }

    /// What a caller hears when the connection breaks once the service has sent so much of an answer, directly and
    /// through another process.
    async fn heard(begun: Option<&'static [u8]>) -> [Status; 2] {
        let hear = async |far: bool| {
            let (reached, cut) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let arrived = Arc::clone(&reached);
            let service = local(service_fn(move |_: Request<Body>| {
                let arrived = Arc::clone(&arrived);
                async move {
                    arrived.notify_one();
                    let Some(begun) = begun else { return std::future::pending().await };
                    let sent = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(begun)))]);
                    let body = Body::new(StreamBody::new(sent.chain(stream::pending())));
                    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
                }
            }));
            let mut link = remote("audit", &cable(&served(service).await, Arc::clone(&cut)).await).unwrap();
            if far {
                link = remote("edge", &served(link).await).unwrap();
            }
            let heard = async {
                let request = Request::post("http://audit/toolcrib.audit.v1.AuditService/AppendEvents");
                let asking = link.oneshot(request.body(Body::empty()).unwrap());
                if begun.is_none() {
                    let cutting = async {
                        reached.notified().await;
                        cut.notify_one();
                    };
                    return tokio::join!(asking, cutting).0.unwrap_or_else(Status::into_http);
                }
                let answer = asking.await.unwrap();
                cut.notify_one();
                answer
            };
            let answer = tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
            let (head, body) = answer.into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
            Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers)).unwrap()
        };
        [hear(false).await, hear(true).await]
    }

    #[tokio::test]
    async fn a_break_in_the_midst_of_a_call_is_told_as_one_whose_outcome_is_not_known() {
        let whole_message = &[0, 0, 0, 0, 0][..];
        for begun in [None, Some(&[0, 0, 0][..]), Some(whole_message)] {
            for status in heard(begun).await {
                let told = (status.code(), reason_of(&status));
                assert_eq!(
                    told,
                    (Code::Unavailable, Some(ErrorReason::OutcomeUnknown)),
                    "{begun:?} {status:?}"
                );
                assert!(status.message().contains("request_id"), "{status:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_service_that_was_never_reached_is_told_apart() {
        let link = remote("audit", "http://127.0.0.1:1").unwrap();
        let answer = AuditServiceClient::new(link).append_events(AppendEventsRequest::default()).await;
        let status = answer.unwrap_err();
        let told = (status.code(), reason_of(&status));
        assert_eq!(told, (Code::Unavailable, Some(ErrorReason::ServiceUnavailable)), "{status:?}");
    }
}
