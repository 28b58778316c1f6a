//! The message of a call, whole before anybody asks whose it is: a call is made by whoever its caller is when it
//! begins, and so it must not begin before it is there. Must never hold more than may be held of all messages that
//! still arrive, nor wait without end; and cost one that came with its headers nothing but a look.

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use rpc::{ARRIVAL, ErrorReason, MAX_MESSAGE_BYTES, PREFIX_BYTES, Share};
use tonic::{Status, body::Body};
use types::Kind;

use crate::places::{self, Places, Site};

/// A message that has arrived.
pub(crate) struct Arrived {
    pub body: Body,
    /// Its bytes among those of all, until it is passed on.
    pub held: Option<Share<Site>>,
}

/// Reads a message to its end.
pub(crate) async fn whole(places: &Places, site: Site, mut body: Body) -> Result<Arrived, Box<Status>> {
    let mut reading = Reading { places, site, first: None, joined: BytesMut::new(), held: None };
    // Most messages come with their headers.
    while let Some(next) = body.frame().now_or_never() {
        if !reading.take(next)? {
            return Ok(reading.arrived());
        }
    }
    let _place = places.unknown(site)?;
    reading.hold()?;
    let begin = async {
        while reading.len() < PREFIX_BYTES {
            if !reading.take(body.frame().await)? {
                return Ok(false);
            }
        }
        Ok::<_, Box<Status>>(true)
    };
    let late = |_| Box::new(rpc::not_in_time());
    let goes_on = tokio::time::timeout(ARRIVAL, begin).await.map_err(late)??;
    let end = async {
        while goes_on && reading.take(body.frame().await)? {}
        Ok::<_, Box<Status>>(())
    };
    tokio::time::timeout(ARRIVAL, end).await.map_err(late)??;
    Ok(reading.arrived())
}

/// What has come so far: one piece as it came, more of them joined.
struct Reading<'a> {
    places: &'a Places,
    site: Site,
    first: Option<Bytes>,
    joined: BytesMut,
    held: Option<Share<Site>>,
}

impl Reading<'_> {
    fn len(&self) -> usize {
        self.first.as_ref().map_or(self.joined.len(), Bytes::len)
    }

    /// Takes the next piece; `false` after the last.
    fn take(&mut self, next: Option<Result<Frame<Bytes>, Status>>) -> Result<bool, Box<Status>> {
        let Some(frame) = next else { return Ok(false) };
        if let Ok(data) = frame?.into_data()
            && !data.is_empty()
        {
            self.add(data)?;
        }
        Ok(true)
    }

    fn add(&mut self, data: Bytes) -> Result<(), Box<Status>> {
        if self.len() + data.len() > MAX_MESSAGE_BYTES + PREFIX_BYTES {
            rpc::check_length(self.begun(&data))?;
            return Err(goes_on());
        }
        if self.len() == 0 {
            rpc::check_length(&data)?;
            self.first = Some(data);
            return Ok(());
        }
        self.hold_more(data.len())?;
        if let Some(first) = self.first.take() {
            self.joined.reserve(first.len() + data.len());
            self.joined.extend_from_slice(&first);
        }
        let had_begun = self.joined.len() >= PREFIX_BYTES;
        self.joined.extend_from_slice(&data);
        if !had_begun {
            rpc::check_length(&self.joined)?;
        }
        Ok(())
    }

    /// How the message begins, which comes with `data` where nothing came before.
    fn begun<'b>(&'b self, data: &'b [u8]) -> &'b [u8] {
        if self.len() == 0 { data } else { self.first.as_deref().unwrap_or(&self.joined) }
    }

    /// Counts what came before anything was counted.
    fn hold(&mut self) -> Result<(), Box<Status>> {
        self.hold_more(0)
    }

    fn hold_more(&mut self, more: usize) -> Result<(), Box<Status>> {
        let uncounted = if self.held.is_some() { 0 } else { self.len() };
        let mut held = match self.held.take() {
            Some(held) => held,
            None => self.places.no_bytes(self.site)?,
        };
        places::grow(&mut held, uncounted + more)?;
        self.held = Some(held);
        Ok(())
    }

    fn arrived(self) -> Arrived {
        let whole = self.first.unwrap_or_else(|| self.joined.freeze());
        let body = if whole.is_empty() { Body::empty() } else { Body::new(Full::new(whole)) };
        Arrived { body, held: self.held }
    }
}

fn goes_on() -> Box<Status> {
    let message = format!(
        "the request goes on after the {MAX_MESSAGE_BYTES} bytes that are taken; send one message, and large data by file"
    );
    Box::new(rpc::status_with_reason(Kind::Exhausted, ErrorReason::MessageTooLarge, message))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;
    use crate::tests::config;

    async fn arrived(pieces: &[Bytes]) -> (Bytes, bool) {
        let frames: Vec<_> =
            pieces.iter().cloned().map(|piece| Ok::<_, Status>(Frame::data(piece))).collect();
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let arrived = whole(&Places::new(&config(0, 0)), None, body).await.unwrap();
        (arrived.body.collect().await.unwrap().to_bytes(), arrived.held.is_some())
    }

    #[tokio::test]
    async fn a_message_is_the_same_however_it_is_cut_and_not_copied_where_it_is_not() {
        let message = Bytes::from_static(&[0, 0, 0, 0, 3, 7, 8, 9]);
        for cut in 1..message.len() {
            let pieces = [message.slice(..cut), Bytes::new(), message.slice(cut..)];
            assert_eq!(arrived(&pieces).await, (message.clone(), true));
        }
        let pieces: Vec<_> = (0..message.len()).map(|at| message.slice(at..=at)).collect();
        assert_eq!(arrived(&pieces).await, (message.clone(), true));
        // What clients send: the message, and the end on its own.
        let (whole, is_held) = arrived(&[message.clone(), Bytes::new()]).await;
        assert_eq!((whole.as_ptr(), whole.len(), is_held), (message.as_ptr(), message.len(), false));
        assert_eq!(arrived(&[]).await, (Bytes::new(), false));
    }
}
