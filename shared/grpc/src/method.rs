//! A unary method by its descriptors, and JSON to and from its messages by the protobuf JSON mapping ("ProtoJSON
//! Format"): fields by their JSON names, 64-bit integers and bytes as text. An answer has every field that cannot be
//! absent, defaults included. Pure.

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::Value;

use crate::{Error, any};

/// Most bytes of a method's descriptors.
pub const MAX_DESCRIPTOR_BYTES: usize = 1 << 20;

/// A method that can be called.
#[derive(Debug, Clone)]
pub struct Method {
    descriptor: MethodDescriptor,
    path: PathAndQuery,
}

impl Method {
    /// Finds a method in an encoded `google.protobuf.FileDescriptorSet`, which must hold all that it needs.
    pub fn load(descriptor_set: &[u8], service: &str, method: &str) -> Result<Self, Error> {
        if descriptor_set.len() > MAX_DESCRIPTOR_BYTES {
            let (has, most) = (descriptor_set.len(), MAX_DESCRIPTOR_BYTES);
            return Err(Error::Descriptors(format!(
                "the descriptors have {has} bytes; at most {most} are taken"
            )));
        }
        let unreadable = |error| Error::Descriptors(format!("the descriptors cannot be read: {error}"));
        let mut pool = DescriptorPool::decode(descriptor_set).map_err(unreadable)?;
        pool.add_file_descriptor_proto(any::file()).map_err(unreadable)?;
        let found = pool
            .get_service_by_name(service)
            .and_then(|found| found.methods().find(|descriptor| descriptor.name() == method));
        let missing = || Error::Descriptors(format!("the descriptors have no method {service}/{method}"));
        let descriptor = found.ok_or_else(missing)?;
        if descriptor.is_client_streaming() || descriptor.is_server_streaming() {
            return Err(Error::Descriptors(format!(
                "{service}/{method} streams; only unary methods are called"
            )));
        }
        let path = PathAndQuery::try_from(format!("/{service}/{method}")).map_err(|_| missing())?;
        Ok(Self { descriptor, path })
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &MethodDescriptor {
        &self.descriptor
    }

    pub(crate) fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// Writes arguments as the request.
    pub fn request(&self, arguments: &Value) -> Result<Bytes, Error> {
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message = DynamicMessage::deserialize_with_options(self.descriptor.input(), arguments, &options)
            .map_err(|error| {
                Error::Arguments(format!("the arguments are no request of the method: {error}"))
            })?;
        Ok(message.encode_to_vec().into())
    }

    /// Reads an answer as JSON text.
    pub fn answer(&self, bytes: Bytes) -> Result<String, Error> {
        let unreadable = |error: &dyn std::error::Error| Error::Answer(error.to_string());
        let message = DynamicMessage::decode(self.descriptor.output(), bytes);
        let mut message = message.map_err(|error| unreadable(&error))?;
        let is_wrapped = any::wrap(&mut message);
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut text = serde_json::Serializer::new(Vec::new());
        message.serialize_with_options(&mut text, &options).map_err(|error| unreadable(&error))?;
        let mut text = text.into_inner();
        if is_wrapped {
            let mut value = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
            any::unwrap(&mut value);
            text = value.to_string().into_bytes();
        }
        String::from_utf8(text).map_err(|error| unreadable(&error))
    }
}
