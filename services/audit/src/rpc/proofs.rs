//! Checkpoints and proofs on the wire.

use ::rpc::Call;
use prost_types::Timestamp;
use proto::audit::v1::{
    GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse,
    GetInclusionProofRequest, GetInclusionProofResponse,
};
use tonic::{Request, Response, Status};
use trail::Hash;
use uuid::Uuid;

use super::Service;
use crate::{Error, prove};

pub(super) async fn get_checkpoint(
    service: &Service,
    request: Request<GetCheckpointRequest>,
) -> Result<Response<GetCheckpointResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let signed = prove::checkpoint(&service.database, &call.caller.team, request.get_ref().size).await;
    let signed = signed.map_err(|error| ::rpc::status(&error))?;
    Ok(Response::new(GetCheckpointResponse {
        checkpoint: signed.checkpoint,
        size: number(signed.size),
        root: signed.root.as_bytes().to_vec(),
        sign_time: Some(Timestamp {
            seconds: signed.sign_time.timestamp(),
            nanos: signed.sign_time.timestamp_subsec_nanos().try_into().unwrap_or(0),
        }),
        verifier_key: service.checkpoints.signer().verifier_key(),
    }))
}

pub(super) async fn get_inclusion_proof(
    service: &Service,
    request: Request<GetInclusionProofRequest>,
) -> Result<Response<GetInclusionProofResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let asked = request.get_ref();
    let proof = async {
        let event = Uuid::parse_str(&asked.event_id)
            .map_err(|_| Error::invalid("event_id", "is no UUID: give the id of an event of the trail"))?;
        prove::inclusion(&service.database, &call.caller.team, event, asked.size).await
    };
    let proof = proof.await.map_err(|error| ::rpc::status(&error))?;
    Ok(Response::new(GetInclusionProofResponse {
        index: number(proof.index),
        size: number(proof.size),
        hashes: bytes(&proof.hashes),
        leaf: proof.leaf,
        leaf_hash: proof.leaf_hash.as_bytes().to_vec(),
        checkpoint: proof.checkpoint,
    }))
}

pub(super) async fn get_consistency_proof(
    service: &Service,
    request: Request<GetConsistencyProofRequest>,
) -> Result<Response<GetConsistencyProofResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let (first, second) = (request.get_ref().first_size, request.get_ref().second_size);
    let proof = prove::consistency(&service.database, &call.caller.team, first, second).await;
    let proof = proof.map_err(|error| ::rpc::status(&error))?;
    Ok(Response::new(GetConsistencyProofResponse {
        first_size: number(proof.first_size),
        second_size: number(proof.second_size),
        hashes: bytes(&proof.hashes),
        first_root: proof.first_root.as_bytes().to_vec(),
        second_root: proof.second_root.as_bytes().to_vec(),
        checkpoint: proof.checkpoint,
    }))
}

fn bytes(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}

/// Sizes stand in the database as signed numbers.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
