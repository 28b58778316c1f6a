//! Messages that come late, in pieces, too large, or not at all: what they hold, and whom they do not keep out.

use futures_util::FutureExt;
use rpc::MAX_MESSAGE_BYTES;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::*;

/// A call whose message is sent by hand.
struct Call {
    body: mpsc::UnboundedSender<Bytes>,
    answer: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Call {
    /// A call of a key from an address, which has sent its headers and nothing else.
    fn begin(house: &House, address: &str, key: &str) -> Self {
        let (body, mut pieces) = mpsc::unbounded_channel::<Bytes>();
        let pieces = stream::poll_fn(move |cx| pieces.poll_recv(cx));
        let body_of = Body::new(StreamBody::new(pieces.map(|piece| Ok::<_, Status>(Frame::data(piece)))));
        let remote_addr = Some(SocketAddr::new(address.parse().unwrap(), 1));
        let request = Request::post("/toolcrib.registry.v1.RegistryService/GetTool")
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {key}"))
            .extension(TcpConnectInfo { local_addr: None, remote_addr });
        let answer = house.edge.clone().oneshot(request.body(body_of).unwrap());
        let answer = async {
            let (head, body) = answer.await.unwrap().into_parts();
            let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
            Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers)).unwrap()
        };
        Self { body, answer: Box::pin(answer) }
    }

    /// Sends a piece; the answer, where there is one already.
    fn send(&mut self, piece: impl Into<Bytes>) -> Option<Status> {
        self.body.send(piece.into()).unwrap();
        self.look()
    }

    fn look(&mut self) -> Option<Status> {
        self.answer.as_mut().now_or_never()
    }

    async fn end(self) -> Status {
        drop(self.body);
        self.answer.await
    }
}

/// How a message of so many bytes begins.
fn prefix(length: usize) -> Vec<u8> {
    [&[0][..], &u32::try_from(length).unwrap().to_be_bytes()].concat()
}

fn assert_crowded(refusal: &Status, message: &str) {
    let told = (refusal.code(), rpc::reason_of(refusal));
    assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::Overloaded)), "{refusal:?}");
    assert!(refusal.get_error_details().retry_info().unwrap().retry_delay.is_some(), "{refusal:?}");
    assert!(refusal.message().contains(message), "{refusal:?}");
}

#[tokio::test]
async fn a_call_is_made_by_whoever_its_caller_is_once_all_of_it_is_there() {
    let house = House::new(0, 0, Limiter::memory());
    let [mut taken, mut late] = [(); 2].map(|()| Call::begin(&house, "192.0.2.1", "team.key"));
    for call in [&mut taken, &mut late] {
        assert!(call.send(prefix(2)).is_none() && call.send(&b"\x12"[..]).is_none());
        assert!(call.send(&b"\0"[..]).is_none(), "it may go on");
    }
    assert_eq!((house.asked(), house.calls()), (0, 0), "nobody asks whose it is before it is there");
    assert_eq!(taken.end().await.code(), Code::Ok);
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.state.revoked.lock().unwrap().push("team.key".to_owned());
    assert_eq!(late.end().await.code(), Code::Unauthenticated);
    assert_eq!((house.asked(), house.calls()), (2, 1));
}

#[tokio::test]
async fn half_sent_calls_of_one_address_leave_places_for_others_and_for_whole_ones() {
    let config = Config { max_concurrent_requests: 8, ..config(0, 0) };
    let house = House::with(&config, Limiter::memory());
    let (here, there) = ("2001:db8::1", "2001:db8:0:1::1");
    house.call_from(Some(here), "team.known").await.unwrap();
    let mut half_sent = [(); 2].map(|()| Call::begin(&house, here, "team.known"));
    assert!(half_sent.iter_mut().all(|call| call.look().is_none()));
    let refusal = Call::begin(&house, "2001:db8::ffff", "team.known").look().unwrap();
    assert_crowded(&refusal, "2 calls of your address");
    house.call_from(Some(here), "team.known").await.unwrap();
    let mut others = [there, "192.0.2.1"].map(|address| Call::begin(&house, address, "team.other"));
    assert!(others.iter_mut().all(|call| call.look().is_none()));
    assert_crowded(&Call::begin(&house, "192.0.2.2", "team.other").look().unwrap(), "4 calls have not");
    house.call_from(Some(there), "team.known").await.unwrap();
    let [first, mut second] = half_sent;
    drop(first);
    assert!(Call::begin(&house, here, "team.known").look().is_none(), "its place is free again");
    assert!(second.send(prefix(0)).is_none());
    assert_eq!(second.end().await.code(), Code::Ok);
}

#[tokio::test]
async fn messages_that_arrive_hold_so_many_bytes_of_an_address_and_in_all() {
    let house = House::with(&Config { max_arriving_bytes: 20 << 20, ..config(0, 0) }, Limiter::memory());
    let begin = |address: &str, length: usize| {
        let mut call = Call::begin(&house, address, "team.key");
        assert!(call.send(prefix(MAX_MESSAGE_BYTES)).is_none());
        let answer = call.send(vec![0; length]);
        (call, answer)
    };
    let (first, answer) = begin("192.0.2.1", 4 << 20);
    assert!(answer.is_none());
    let (mut second, answer) = begin("192.0.2.1", 1 << 19);
    assert!(answer.is_none());
    let refusal = second.send(vec![0; 1 << 20]).unwrap();
    assert_crowded(&refusal, "messages of your address that still arrive have 5242880 bytes");
    let others = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(|address| begin(address, 4 << 20));
    assert!(others.iter().all(|(_, answer)| answer.is_none()));
    let (fifth, answer) = begin("192.0.2.5", 3 << 20);
    assert!(answer.is_none());
    let (_, answer) = begin("192.0.2.6", 2 << 20);
    assert_crowded(&answer.unwrap(), "messages that still arrive have 20971520 bytes");
    drop((second, fifth));
    // One that came whole is passed on, and holds nothing any more.
    assert_eq!(first.end().await.code(), Code::Ok);
    assert!(begin("192.0.2.1", 4 << 20).1.is_none());
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_anybody_is_asked() {
    let house = House::new(0, 0, Limiter::memory());
    let mut large = Call::begin(&house, "192.0.2.1", "team.key");
    let [a, b] =
        [&prefix(MAX_MESSAGE_BYTES + 1)[..3], &prefix(MAX_MESSAGE_BYTES + 1)[3..]].map(<[u8]>::to_vec);
    assert!(large.send(a).is_none());
    let mut endless = Call::begin(&house, "192.0.2.1", "team.key");
    assert!(endless.send(prefix(MAX_MESSAGE_BYTES)).is_none());
    assert!(endless.send(vec![0; MAX_MESSAGE_BYTES]).is_none());
    let mut whole = Call::begin(&house, "192.0.2.1", "team.key");
    let prefixed = prefix(MAX_MESSAGE_BYTES + 1);
    for refusal in [large.send(b), endless.send(vec![0]), whole.send(prefixed)] {
        let refusal = refusal.unwrap();
        let told = (refusal.code(), rpc::reason_of(&refusal));
        assert_eq!(told, (Code::ResourceExhausted, Some(ErrorReason::MessageTooLarge)), "{refusal:?}");
    }
    assert_eq!((house.asked(), house.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_begin_or_does_not_end_is_given_up() {
    let house = House::new(0, 0, Limiter::memory());
    let silent = Call::begin(&house, "192.0.2.1", "team.key");
    let mut stopped = Call::begin(&house, "192.0.2.1", "team.key");
    assert!(stopped.send(prefix(2)).is_none() && stopped.send(&b"\x12"[..]).is_none());
    for Call { body: _body, answer } in [silent, stopped] {
        let given_up = tokio::time::timeout(Duration::from_secs(30), answer).await.expect("it ends");
        assert_eq!(given_up.code(), Code::DeadlineExceeded, "{given_up:?}");
    }
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn one_key_has_so_many_calls_under_way_and_another_has_its_own() {
    let config = Config { max_concurrent_requests_per_key: 2, ..config(0, 0) };
    let house = House::with(&config, Limiter::memory());
    let mut slow = [(); 2].map(|()| Call::begin(&house, "192.0.2.1", "team.slow"));
    for call in &mut slow {
        assert!(call.send(prefix(0)).is_none());
    }
    let [first, second] = slow.map(|call| tokio::spawn(call.end()));
    while house.calls() < 2 {
        tokio::task::yield_now().await;
    }
    let third =
        tokio::time::timeout(Duration::from_secs(20), house.call_from(Some("192.0.2.2"), "team.slow"));
    assert_crowded(&third.await.expect("it is answered at once").unwrap_err(), "2 calls of this API key");
    house.call("team.quick").await.unwrap();
    house.call("another.quick").await.unwrap();
    house.state.go.notify_waiters();
    for call in [first, second] {
        assert_eq!(call.await.unwrap().code(), Code::Ok);
    }
    house.state.go.notify_one();
    house.call("team.slow").await.unwrap();
}
