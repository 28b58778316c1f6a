//! The tool that one method becomes. Pure.

use ::grpc::MAX_DESCRIPTOR_BYTES;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use prost::Message;
use prost_reflect::MethodDescriptor;
use prost_types::method_options::IdempotencyLevel;
use types::Effect;

use super::{Source, binding, comments::Comments, name::title, prune, schema};
use crate::{
    definition::{Binding, Proposal},
    import::Candidate,
};

/// Longest description that is made of comments, in characters.
const MAX_DESCRIPTION: usize = 4_000;

/// A method, and the tool that it would become.
pub(super) fn candidate(
    source: &Source,
    name: String,
    method: &MethodDescriptor,
    comments: &mut Comments,
) -> Candidate {
    let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
    let mut notes = Vec::new();
    if options.deprecated() {
        notes.push("its server calls it deprecated".to_owned());
    }
    let effect = effect(options.idempotency_level(), source.defaults.trust_effects);
    let proposal = proposal(source, &name, method, effect, comments);
    let proposal = proposal.map(|made| source.defaults.fill(made));
    Candidate { source: path(method), name, proposal, notes }
}

/// What a method is in its source.
pub(super) fn path(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

fn proposal(
    source: &Source,
    name: &str,
    method: &MethodDescriptor,
    effect: Effect,
    comments: &mut Comments,
) -> Result<Proposal, String> {
    if method.is_client_streaming() || method.is_server_streaming() {
        let what = match (method.is_client_streaming(), method.is_server_streaming()) {
            (true, true) => "its requests and answers",
            (true, false) => "its requests",
            _ => "its answers",
        };
        return Err(format!("it streams {what}, and only unary methods can be tools"));
    }
    let service = method.parent_service().full_name();
    let input = schema::input(&method.input(), comments)?;
    let output = schema::output(&method.output(), comments)?;
    let descriptors = prune::descriptors(method)?.encode_to_vec();
    if descriptors.len() > MAX_DESCRIPTOR_BYTES {
        return Err(prune::too_large());
    }
    Ok(Proposal {
        name: name.to_owned(),
        title: title(method.name()),
        description: description(method, comments),
        effect: Some(effect),
        input_schema: input.to_string(),
        output_schema: output.to_string(),
        binding: Some(Binding::Grpc(binding(source, service, method.name(), BASE64.encode(descriptors)))),
        provider: source.provider.clone(),
        ..Proposal::default()
    })
}

/// What the method says of itself, where that is believed. A name that begins with Get or List proves nothing.
fn effect(level: IdempotencyLevel, is_trusted: bool) -> Effect {
    match level {
        _ if !is_trusted => Effect::SideEffect,
        IdempotencyLevel::NoSideEffects => Effect::ReadOnly,
        IdempotencyLevel::Idempotent => Effect::Idempotent,
        IdempotencyLevel::IdempotencyUnknown => Effect::SideEffect,
    }
}

fn description(method: &MethodDescriptor, comments: &mut Comments) -> String {
    let file = method.parent_file();
    let own = comments.at(&file, method.path(), MAX_DESCRIPTION);
    if !own.is_empty() {
        return own;
    }
    let plain = format!("Calls {} of {}.", method.name(), method.parent_service().full_name());
    let request = method.input();
    match comments.at(&request.parent_file(), request.path(), MAX_DESCRIPTION) {
        about if about.is_empty() => plain,
        about => format!("{plain} {about}"),
    }
}
