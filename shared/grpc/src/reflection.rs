//! Asks a server what it offers: gRPC server reflection v1, or v1alpha where it does not know v1. Everything that is
//! taken is bounded, and what is wrong with one service costs no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::{HeaderMap, uri::PathAndQuery};
use prost::Message;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::{Connection, Error, Refusal, connection::metadata, error::on_one_line};

const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const V1ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
/// Most services, files and bytes of files that are taken.
const MAX_SERVICES: usize = 1_000;
const MAX_FILES: usize = 5_000;
const MAX_BYTES: usize = 32 << 20;
/// Most bytes of one answer.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Services of the protocol itself.
const OWN: [&str; 3] = ["grpc.reflection.", "grpc.health.", "grpc.channelz."];

/// What a server offers.
#[derive(Debug)]
pub struct Reflected {
    /// Full names of all services that the server lists, those of the protocol itself left out; in order.
    pub listed: Vec<String>,
    /// In order of name; those of the protocol itself left out unless they were asked for by name.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Full name.
    pub name: String,
    /// Its descriptor, with all that it refers to; or why there is none.
    pub found: Result<ServiceDescriptor, String>,
}

/// Asks a server for the services `wanted` (all of them when empty), within a time.
pub async fn reflect(
    connection: &Connection,
    entries: &HeaderMap,
    wanted: &[String],
    within: Duration,
) -> Result<Reflected, Error> {
    let asked = tokio::time::timeout(within, ask(connection, entries, wanted)).await;
    asked.unwrap_or(Err(Error::Timeout)).map_err(|error| connection.explain(error))
}

async fn ask(connection: &Connection, entries: &HeaderMap, wanted: &[String]) -> Result<Reflected, Error> {
    let mut asker = Asker { connection, entries, path: V1, stream: None };
    let names = match asker.services().await {
        Err(Error::Status(Refusal { code, .. })) if code == i32::from(Code::Unimplemented) => {
            asker = Asker { connection, entries, path: V1ALPHA, stream: None };
            asker.services().await?
        }
        other => other?,
    };
    let (mut names, own): (BTreeSet<String>, BTreeSet<String>) =
        names.into_iter().partition(|name| !OWN.iter().any(|prefix| name.starts_with(prefix)));
    let listed = names.iter().cloned().collect();
    if !wanted.is_empty() {
        names = wanted.iter().filter(|name| names.contains(*name) || own.contains(*name)).cloned().collect();
    }
    if names.len() > MAX_SERVICES {
        let told = format!("the server has {} services; at most {MAX_SERVICES} are taken", names.len());
        return Err(Error::Descriptors(told));
    }
    let mut files = Files::default();
    let mut given = Vec::with_capacity(names.len());
    for name in names {
        let found = match files.take(&mut asker, &name).await {
            Ok(()) => Ok(()),
            Err(Error::Descriptors(reason)) => Err(reason),
            // The server knows that it has it, and does not say what it is.
            Err(error @ (Error::Status(_) | Error::Answer(_))) => Err(error.whole()),
            Err(other) => return Err(other),
        };
        given.push((name, found));
    }
    // A descriptor keeps its pool, and a pool that is kept is copied when a file is added: none is taken before the end.
    let find = |(name, found): (String, Result<(), String>)| {
        let found = found.and_then(|()| files.service(&name));
        Service { name, found }
    };
    Ok(Reflected { listed, services: given.into_iter().map(find).collect() })
}

/// Asks one question after the other.
struct Asker<'a> {
    connection: &'a Connection,
    entries: &'a HeaderMap,
    path: &'static str,
    stream: Option<(mpsc::Sender<ServerReflectionRequest>, Streaming<ServerReflectionResponse>)>,
}

impl Asker<'_> {
    async fn services(&mut self) -> Result<Vec<String>, Error> {
        match self.ask(MessageRequest::ListServices("*".to_owned())).await? {
            MessageResponse::ListServicesResponse(list) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            _ => Err(unexpected()),
        }
    }

    async fn files(&mut self, question: MessageRequest) -> Result<Vec<Vec<u8>>, Error> {
        match self.ask(question).await? {
            MessageResponse::FileDescriptorResponse(files) => Ok(files.file_descriptor_proto),
            _ => Err(unexpected()),
        }
    }

    async fn ask(&mut self, question: MessageRequest) -> Result<MessageResponse, Error> {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let (sender, mut answers) = match self.stream.take() {
            Some((sender, answers)) => {
                sender.send(request).await.map_err(|_| unexpected())?;
                (sender, answers)
            }
            None => self.open(request).await?,
        };
        let answer = answers.message().await.map_err(|status| Error::of(&status, MAX_ANSWER_BYTES))?;
        let answer = answer.and_then(|answer| answer.message_response).ok_or_else(unexpected)?;
        self.stream = Some((sender, answers));
        match answer {
            MessageResponse::ErrorResponse(error) => Err(Error::Status(Refusal {
                code: error.error_code,
                message: on_one_line(&error.error_message),
                retry_after: None,
                is_final: false,
            })),
            answer => Ok(answer),
        }
    }

    /// The first question goes along: some servers send nothing before it.
    async fn open(
        &self,
        first: ServerReflectionRequest,
    ) -> Result<(mpsc::Sender<ServerReflectionRequest>, Streaming<ServerReflectionResponse>), Error> {
        let (sender, questions) = mpsc::channel(1);
        sender.send(first).await.map_err(|_| unexpected())?;
        let mut client =
            Grpc::new(self.connection.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        client.ready().await.map_err(|error| Error::of_cause(&error))?;
        let mut request = Request::new(ReceiverStream::new(questions));
        *request.metadata_mut() = metadata(self.entries);
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let answer = client.streaming(request, PathAndQuery::from_static(self.path), codec).await;
        let answers = answer.map_err(|status| Error::of(&status, MAX_ANSWER_BYTES))?.into_inner();
        Ok((sender, answers))
    }
}

fn unexpected() -> Error {
    Error::Answer("its reflection does not answer what it was asked".to_owned())
}

/// The files that a server has given.
#[derive(Default)]
struct Files {
    known: BTreeMap<String, (FileDescriptorProto, Vec<u8>)>,
    bytes: usize,
    pool: DescriptorPool,
}

impl Files {
    /// Takes the files that define a service, and all that they refer to.
    async fn take(&mut self, asker: &mut Asker<'_>, name: &str) -> Result<(), Error> {
        let given = asker.files(MessageRequest::FileContainingSymbol(name.to_owned())).await?;
        let mut missing = BTreeSet::new();
        let mut roots = Vec::new();
        for bytes in given {
            roots.push(self.keep(bytes)?);
        }
        for root in &roots {
            self.collect_missing(root, &mut missing);
        }
        while let Some(file) = missing.pop_first() {
            if self.known.contains_key(&file) {
                continue;
            }
            let given =
                asker.files(MessageRequest::FileByFilename(file.clone())).await.map_err(
                    |error| match error {
                        Error::Status(refusal) => Error::Descriptors(format!(
                            "the server does not give {file:?}, which the service needs: {}",
                            Error::Status(refusal)
                        )),
                        other => other,
                    },
                )?;
            for bytes in given {
                let kept = self.keep(bytes)?;
                self.collect_missing(&kept, &mut missing);
            }
            if !self.known.contains_key(&file) {
                return Err(Error::Descriptors(format!("the server gives another file for {file:?}")));
            }
        }
        for root in &roots {
            self.add(root)?;
        }
        Ok(())
    }

    fn service(&self, name: &str) -> Result<ServiceDescriptor, String> {
        let wrong = || format!("the files of the server do not define {name}");
        self.pool.get_service_by_name(name).ok_or_else(wrong)
    }

    /// Takes one file; the first of a name stays.
    fn keep(&mut self, bytes: Vec<u8>) -> Result<String, Error> {
        let unreadable = |error| Error::Descriptors(format!("a file of the server cannot be read: {error}"));
        let file = FileDescriptorProto::decode(bytes.as_slice()).map_err(unreadable)?;
        let name = file.name().to_owned();
        if !self.known.contains_key(&name) {
            self.bytes += bytes.len();
            if self.bytes > MAX_BYTES || self.known.len() >= MAX_FILES {
                let told = format!("the server has more than {MAX_FILES} files or {MAX_BYTES} bytes of them");
                return Err(Error::Descriptors(told));
            }
            self.known.insert(name.clone(), (file, bytes));
        }
        Ok(name)
    }

    fn collect_missing(&self, root: &str, missing: &mut BTreeSet<String>) {
        let (mut seen, mut left) = (BTreeSet::new(), vec![root]);
        while let Some(name) = left.pop() {
            if !seen.insert(name) {
                continue;
            }
            match self.known.get(name) {
                Some((file, _)) => left.extend(file.dependency.iter().map(String::as_str)),
                None => drop(missing.insert(name.to_owned())),
            }
        }
    }

    /// Adds a file to the pool, what it depends on first.
    fn add(&mut self, root: &str) -> Result<(), Error> {
        let (mut order, mut seen, mut left) = (Vec::new(), BTreeSet::new(), vec![(root.to_owned(), false)]);
        while let Some((name, is_done)) = left.pop() {
            if is_done {
                order.push(name);
            } else if self.pool.get_file_by_name(&name).is_none() && seen.insert(name.clone()) {
                let dependencies = self.known.get(&name).map(|(file, _)| file.dependency.clone());
                left.push((name, true));
                left.extend(dependencies.unwrap_or_default().into_iter().map(|name| (name, false)));
            }
        }
        for name in order {
            let Some((file, bytes)) = self.known.get(&name) else { continue };
            if !matches!(file.syntax(), "" | "proto2" | "proto3") {
                let told =
                    format!("{name:?} is written in an edition of protobuf; proto2 and proto3 are taken");
                return Err(Error::Descriptors(told));
            }
            self.pool
                .decode_file_descriptor_proto(bytes.as_slice())
                .map_err(|error| Error::Descriptors(format!("{name:?} of the server is wrong: {error}")))?;
        }
        Ok(())
    }
}
