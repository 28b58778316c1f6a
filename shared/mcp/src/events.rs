//! News of calls under way: progress and log messages, each given to the call it belongs to and to no other.
//! Must never hold more than a bounded number of them, nor wait for a listener.

#![allow(deprecated, reason = "servers log as long as the protocol has it (SEP-2577 deprecates it)")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{LoggingMessageNotificationParam, ProgressNotificationParam, ProgressToken, RequestId};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::error::shortened;

/// News of one call that wait for its listener; more are dropped.
const MAX_WAITING: usize = 64;

/// Largest data of a log message, in bytes of JSON text; longer ones are cut and given as text.
const MAX_LOG_BYTES: usize = 8 * 1024;

/// Something a server says of a call before it answers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum CallEvent {
    /// How far the tool is (`notifications/progress`).
    Progress {
        /// Progress so far, in a unit of the tool's choice.
        progress: f64,
        /// The whole, where it is known.
        total: Option<f64>,
        /// For people, at most 1,000 characters.
        message: Option<String>,
    },
    /// A log message (`notifications/message`).
    Log {
        /// Severity as in RFC 5424: `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert`,
        /// `emergency`.
        level: String,
        /// Who logs, at most 1,000 characters.
        logger: Option<String>,
        /// What it says; at most 8 KiB of JSON text.
        data: Value,
    },
}

impl From<ProgressNotificationParam> for CallEvent {
    fn from(news: ProgressNotificationParam) -> Self {
        let message = news.message.as_deref().map(shortened);
        Self::Progress { progress: news.progress, total: news.total, message }
    }
}

impl From<LoggingMessageNotificationParam> for CallEvent {
    fn from(news: LoggingMessageNotificationParam) -> Self {
        let level = serde_json::to_value(news.level).ok().and_then(|level| level.as_str().map(str::to_owned));
        let text = news.data.to_string();
        let data = if text.len() <= MAX_LOG_BYTES {
            news.data
        } else {
            let cut: String = text.chars().take(MAX_LOG_BYTES / 4).collect();
            Value::String(format!("{cut}…"))
        };
        Self::Log { level: level.unwrap_or_default(), logger: news.logger.as_deref().map(shortened), data }
    }
}

/// Rides along with the request of a call, unseen by the server: tells whether it went out, and where its
/// news go.
#[derive(Clone)]
pub(crate) struct Ticket {
    sent: Arc<AtomicBool>,
    events: Option<mpsc::Sender<CallEvent>>,
}

impl Ticket {
    /// A ticket without, or with a place for news.
    pub(crate) fn new(listens: bool) -> (Self, Option<mpsc::Receiver<CallEvent>>) {
        let (events, receiver) = if listens {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        (Self { sent: Arc::default(), events }, receiver)
    }

    pub(crate) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Release);
    }

    /// Whether the transport began to send the request.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }
}

/// The calls of one connection that want news.
#[derive(Default)]
pub(crate) struct Listeners {
    calls: Mutex<HashMap<RequestId, Listener>>,
}

struct Listener {
    token: ProgressToken,
    events: mpsc::Sender<CallEvent>,
}

impl Listeners {
    /// Takes a call up when its request goes out; one that was given up before is left out.
    pub(crate) fn add(&self, id: &RequestId, token: ProgressToken, ticket: &Ticket) {
        let Some(events) = ticket.events.clone() else { return };
        let mut calls = self.calls();
        if !events.is_closed() {
            calls.insert(id.clone(), Listener { token, events });
        }
    }

    pub(crate) fn remove(&self, id: &RequestId) {
        self.calls().remove(id);
    }

    /// A full listener misses news rather than hold up the others.
    pub(crate) fn progress(&self, news: ProgressNotificationParam) {
        let calls = self.calls();
        if let Some(listener) = calls.values().find(|listener| listener.token == news.progress_token) {
            let _ = listener.events.try_send(news.into());
        }
    }

    /// A log message names no call. On a connection with several under way nobody gets it: it may speak of
    /// what another caller asked for.
    pub(crate) fn log(&self, news: LoggingMessageNotificationParam) {
        let calls = self.calls();
        let mut all = calls.values();
        if let (Some(listener), None) = (all.next(), all.next()) {
            let _ = listener.events.try_send(news.into());
        }
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<RequestId, Listener>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::{LoggingLevel, NumberOrString};
    use serde_json::json;

    fn token(number: i64) -> ProgressToken {
        ProgressToken(NumberOrString::Number(number))
    }

    fn listening(listeners: &Listeners, number: i64) -> mpsc::Receiver<CallEvent> {
        let (ticket, events) = Ticket::new(true);
        listeners.add(&NumberOrString::Number(number), token(number + 100), &ticket);
        events.unwrap()
    }

    #[test]
    fn progress_goes_to_its_own_call_and_what_is_too_much_is_dropped() {
        let listeners = Listeners::default();
        let (mut one, mut two) = (listening(&listeners, 1), listening(&listeners, 2));
        for step in 0..1_000_i32 {
            listeners.progress(ProgressNotificationParam::new(token(101), f64::from(step)));
        }
        listeners.progress(ProgressNotificationParam::new(token(999), 1.0));
        assert!(two.try_recv().is_err());
        let received = std::iter::from_fn(|| one.try_recv().ok()).count();
        assert_eq!(received, MAX_WAITING);
    }

    #[test]
    fn a_log_message_reaches_nobody_when_it_may_be_anothers() {
        let listeners = Listeners::default();
        let mut one = listening(&listeners, 1);
        let say = |text: &str| {
            listeners.log(LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(text)));
        };
        say("alone");
        let two = listening(&listeners, 2);
        say("whose?");
        drop(two);
        listeners.remove(&NumberOrString::Number(2));
        say(&"x".repeat(100_000));
        let first = CallEvent::Log { level: "info".into(), logger: None, data: json!("alone") };
        assert_eq!(one.try_recv(), Ok(first));
        let CallEvent::Log { data, .. } = one.try_recv().unwrap() else { panic!("a log") };
        assert!(data.as_str().unwrap().len() < MAX_LOG_BYTES && one.try_recv().is_err());
    }

    #[test]
    fn a_call_given_up_before_it_was_sent_is_not_kept() {
        let listeners = Listeners::default();
        let (ticket, events) = Ticket::new(true);
        drop(events);
        listeners.add(&NumberOrString::Number(1), token(1), &ticket);
        assert!(listeners.calls().is_empty());
    }
}
