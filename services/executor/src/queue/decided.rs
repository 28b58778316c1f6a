//! Hears of decisions on access requests as they are made, and looks at the calls that wait for them. What is not heard,
//! `awaiting.rs` finds all the same: nothing rests on this but that it is soon.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use proto::permissions::v1::{
    WatchAccessRequestsRequest, WatchAccessRequestsResponse,
    permissions_service_client::PermissionsServiceClient,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::awaiting::{TAKEN, attend_all};
use crate::{
    Error, Executor,
    store::{self, Awaited},
};

/// How long permissions may take to begin.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Without a word for this long, the stream is taken for dead. Permissions says every ten seconds that it lives.
const SILENCE: Duration = Duration::from_secs(35);
/// The first and the longest pause before the stream is taken up again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows until told to stop.
pub(crate) async fn follow(executor: &Arc<Executor>, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            lost = hear(executor, &mut failures) => lost,
        };
        if let Err(error) = lost {
            failures += 1;
            if failures == 1 {
                tracing::warn!(%error, "decisions on access requests are not heard; they are asked for instead");
            } else {
                tracing::debug!(%error, failures, "decisions on access requests are still not heard");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause(failures, rand::random())) => {}
        }
    }
}

/// Twice as long after each failure, and somewhere in the upper half of that, so that the executors whose permissions
/// were away do not come back together. `draw` is 0 to 1.
fn pause(failures: u32, draw: f64) -> Duration {
    let most = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    most.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

/// Hears until the stream ends.
async fn hear(executor: &Arc<Executor>, failures: &mut u32) -> Result<(), Error> {
    let authorizer = &executor.authorizer;
    let request = authorizer.outgoing.own_request(TIMEOUT, WatchAccessRequestsRequest {});
    let mut client = PermissionsServiceClient::new(authorizer.permissions.clone());
    let mut told = client.watch_access_requests(request).await.map_err(peer)?.into_inner();
    loop {
        match tokio::time::timeout(SILENCE, told.next()).await {
            Ok(Some(decided)) => {
                let decided = decided.map_err(peer)?;
                *failures = 0;
                attend(executor, &decided).await;
            }
            Ok(None) => return Ok(()),
            Err(_) => return Err(peer("fell silent")),
        }
    }
}

fn peer(status: impl std::fmt::Display) -> Error {
    Error::Peer { service: "permissions", status: status.to_string() }
}

async fn attend(executor: &Arc<Executor>, decided: &WatchAccessRequestsResponse) {
    // Without an id it says only that it is there.
    let Ok(access_request_id) = decided.access_request_id.parse() else { return };
    let awaited = Awaited {
        team: &decided.team_id,
        access_request_id,
        others: (&decided.agent_id, &decided.tool_name),
    };
    if let Err(error) = look(executor, &awaited, decided.revision).await {
        tracing::debug!(%error, "calls that a decision is for are looked at later");
    }
}

async fn look(executor: &Arc<Executor>, awaited: &Awaited<'_>, revision: i64) -> Result<(), Error> {
    let mut after = Uuid::nil();
    loop {
        let pool = executor.database.pool()?;
        let taken = store::awaiting_take_decided(pool, awaited, (after, TAKEN)).await?;
        let Some(last) = taken.last() else { return Ok(()) };
        after = last.id;
        attend_all(executor, taken, revision).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_are_never_the_same_for_all() {
        let ms = |failures, draw| pause(failures, draw).as_millis();
        assert_eq!([0, 1, 2, 3].map(|failures| ms(failures, 1.0)), [200, 400, 800, 1_600]);
        assert_eq!((ms(5, 1.0), ms(u32::MAX, 1.0), ms(u32::MAX, 0.0)), (5_000, 5_000, 2_500));
    }
}
