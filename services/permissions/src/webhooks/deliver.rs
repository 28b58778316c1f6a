//! Sends what waits for webhooks, at least once each: a message that a dead process had in hand is sent again by another,
//! under the same id. One that is slow or gone holds up no other. Must never log an address or a message.

use std::{collections::HashMap, time::Duration};

use ::store::{Database, Error};
use chrono::Utc;
use reqwest::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Destinations, Seal, destinations::Headers};
use crate::store::{self, Claimed, WebhookKey};

/// How often the table is searched for what is due.
const POLL: Duration = Duration::from_millis(500);
/// Messages that one process sends at once, and those of one webhook among them.
const AT_ONCE: usize = 128;
const AT_ONCE_TO_ONE: usize = 2;
/// What is added to the time of an attempt before its process is taken for dead.
const GRACE: Duration = Duration::from_secs(20);

/// Sends messages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Courier {
    pub database: Database,
    pub seal: Seal,
    pub destinations: Destinations,
    /// The most that is waited for after each failed attempt; after one more failure a message is given up.
    pub retry: Vec<Duration>,
}

/// What became of an attempt.
enum Outcome {
    Taken,
    /// The receiver wants no more, ever.
    Gone,
    /// Why, and how long it asks to be left alone.
    Failed(String, Option<Duration>),
}

impl Courier {
    /// Sends until told to stop, and ends what is under way.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (mut sending, mut busy) = (JoinSet::new(), HashMap::<WebhookKey, usize>::new());
        let mut was_failing = false;
        while !stop.is_cancelled() {
            let found = match self.claim(sending.len(), &busy).await {
                Ok(found) => {
                    was_failing = false;
                    found
                }
                Err(error) => {
                    if !std::mem::replace(&mut was_failing, true) {
                        tracing::warn!(%error, "webhooks are not told of anything for now");
                    }
                    Vec::new()
                }
            };
            for claimed in found {
                *busy.entry(claimed.key.clone()).or_default() += 1;
                let courier = self.clone();
                sending.spawn(async move {
                    let key = claimed.key.clone();
                    courier.send(claimed).await;
                    key
                });
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(POLL) => {}
                Some(ended) = sending.join_next() => note_end(&mut busy, ended),
            }
            while let Some(ended) = sending.try_join_next() {
                note_end(&mut busy, ended);
            }
        }
        while sending.join_next().await.is_some() {}
    }

    async fn claim(&self, sending: usize, busy: &HashMap<WebhookKey, usize>) -> Result<Vec<Claimed>, Error> {
        let room = AT_ONCE.saturating_sub(sending);
        if room == 0 {
            return Ok(Vec::new());
        }
        let full = busy.iter().filter(|(_, count)| **count >= AT_ONCE_TO_ONE).map(|(key, _)| key);
        let lease = self.destinations.timeout() + GRACE;
        let pool = self.database.pool()?;
        store::deliveries_claim(pool, &full.collect::<Vec<_>>(), (AT_ONCE_TO_ONE, room), lease).await
    }

    /// Makes one attempt and writes down how it went. What cannot be written is sent again once its time is over.
    async fn send(&self, claimed: Claimed) {
        let outcome = self.attempt(&claimed).await;
        let WebhookKey { team, name } = &claimed.key;
        let written = async {
            let pool = self.database.pool()?;
            match &outcome {
                Outcome::Taken => store::delivery_taken(pool, &claimed).await,
                Outcome::Gone => {
                    let told = "answered 410 Gone; nothing is sent until it is put again";
                    store::webhook_disable(pool, team, name, told).await
                }
                Outcome::Failed(error, asked) => {
                    // Attempts are counted from 1; none that is left is the end.
                    let place = usize::try_from(claimed.attempts).unwrap_or(usize::MAX).saturating_sub(1);
                    let again = self.retry.get(place).map(|most| pause(*most, *asked, rand::random()));
                    store::delivery_failed(pool, &claimed, error, again).await
                }
            }
        };
        if let Outcome::Failed(error, _) = &outcome {
            tracing::debug!(
                team,
                webhook = name,
                attempt = claimed.attempts,
                error,
                "a webhook did not take it"
            );
        }
        if let Err(error) = written.await {
            tracing::warn!(team, webhook = name, %error, "a message to a webhook may be sent again");
        }
    }

    async fn attempt(&self, claimed: &Claimed) -> Outcome {
        let WebhookKey { team, name } = &claimed.key;
        let Some(secret) = self.seal.open(team, name, &claimed.secret) else {
            let why = "its secret was sealed under another security.caller_token_key; put it again";
            return Outcome::Failed(why.to_owned(), None);
        };
        let (id, timestamp) = (format!("msg_{}", claimed.delivery_id.simple()), Utc::now().timestamp());
        let signature = secret.sign(&id, timestamp, &claimed.body);
        let headers = Headers { id, timestamp, signature };
        match self.destinations.post(&claimed.url, &headers, claimed.body.clone()).await {
            Ok((status, _)) if status.is_success() => Outcome::Taken,
            Ok((StatusCode::GONE, _)) => Outcome::Gone,
            Ok((status, asked)) if status.is_redirection() => {
                Outcome::Failed(format!("answered {}; redirects are not followed", status.as_u16()), asked)
            }
            Ok((status, asked)) => Outcome::Failed(format!("answered {}", status.as_u16()), asked),
            Err(why) => Outcome::Failed(why, None),
        }
    }
}

/// What is waited for before the next attempt: any part of the most, so that those that failed together do not come again
/// together (full jitter), and no less than the receiver asks for. `draw` is 0 to 1.
fn pause(most: Duration, asked: Option<Duration>, draw: f64) -> Duration {
    most.mul_f64(draw.clamp(0.0, 1.0)).max(asked.unwrap_or_default())
}

fn note_end(busy: &mut HashMap<WebhookKey, usize>, ended: Result<WebhookKey, tokio::task::JoinError>) {
    match ended {
        Ok(key) => {
            if let Some(count) = busy.get_mut(&key) {
                *count = count.saturating_sub(1);
            }
            busy.retain(|_, count| *count > 0);
        }
        // Which webhook it was of is not known any more: all may be asked again.
        Err(_) => busy.clear(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_any_part_of_the_most_and_what_the_receiver_asks_for() {
        let s = Duration::from_secs;
        let table = [
            (0.0, None, 0),
            (0.5, None, 30),
            (1.0, None, 60),
            (0.5, Some(7), 30),
            (0.0, Some(7), 7),
            (1.0, Some(3_600), 3_600),
        ];
        for (draw, asked, seconds) in table {
            assert_eq!(pause(s(60), asked.map(s), draw), s(seconds), "{draw} {asked:?}");
        }
    }
}
