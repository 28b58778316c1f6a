//! One unary call, under one deadline that the server is told. Dropped, it is cancelled (RST_STREAM).

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{Connection, Error, Method, connection::metadata};

/// What is sent.
#[derive(Clone)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request, by [`Method::request`].
    pub request: Bytes,
    /// Metadata; may hold keys.
    pub metadata: &'a HeaderMap,
    /// How long the answer may take; the server is told.
    pub timeout: Duration,
    /// Most bytes of the answer, as it is on the wire.
    pub max_bytes: usize,
}

impl Connection {
    /// Calls a method and gives its answer, encoded.
    pub async fn unary(&self, call: Call<'_>) -> Result<Bytes, Error> {
        let within = call.timeout;
        let answer = tokio::time::timeout(within, self.call(call)).await.unwrap_or(Err(Error::Timeout));
        answer.map_err(|error| self.explain(error))
    }

    async fn call(&self, call: Call<'_>) -> Result<Bytes, Error> {
        let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(call.max_bytes);
        client.ready().await.map_err(|error| Error::of_cause(&error))?;
        let mut request = Request::new(call.request);
        *request.metadata_mut() = metadata(call.metadata);
        request.set_timeout(call.timeout);
        let answer = client.unary(request, call.method.path().clone(), Whole).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::of(&status, call.max_bytes))
    }
}

/// Messages as they are on the wire: they are read and written where an error can say what is wrong.
#[derive(Debug, Clone, Copy)]
struct Whole;

impl Codec for Whole {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Whole {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
