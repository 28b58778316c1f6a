//! The header of a report: what it is about, for whom, by whom, and what its columns say.

use serde::Serialize;
use trail::report::FORMAT;
use uuid::Uuid;

use super::{Ground, form::Form, moment};

/// The header as files have it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Head {
    pub format: &'static str,
    pub framework: &'static str,
    pub title: &'static str,
    pub citation: &'static str,
    pub team_id: String,
    /// Which trail.
    pub origin: String,
    pub query: QueryText,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_start_time: Option<String>,
    /// What of the period is not kept any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retention_ended: Vec<Ended>,
    pub generate_time: String,
    pub generator: String,
    pub verifier_key: String,
    pub columns: Vec<ColumnText>,
    pub notes: Vec<&'static str>,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct QueryText {
    pub start_time: String,
    pub end_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_ids: Option<Vec<Uuid>>,
    /// Actions that are in it; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<&'static str>>,
    /// Whether also whatever did not succeed is in it.
    pub every_failure: bool,
    /// Whether only what was done with tools is in it.
    pub tools_only: bool,
}

/// A classification of which older records are gone.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ended {
    pub classification: String,
    pub kept_since: String,
}

/// A column.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ColumnText {
    pub name: &'static str,
    pub meaning: &'static str,
}

impl Head {
    pub(super) fn new(ground: &Ground, form: &Form, origin: &str, verifier_key: String) -> Self {
        let asked = &ground.asked;
        let framework = asked.framework;
        Self {
            format: FORMAT,
            framework: framework.name(),
            title: form.title,
            citation: form.citation,
            team_id: ground.team.clone(),
            origin: origin.to_owned(),
            query: QueryText {
                start_time: moment(asked.start),
                end_time: moment(asked.end),
                user: (!asked.user.is_empty()).then(|| asked.user.clone()),
                subject_ids: ground.subjects.clone(),
                actions: framework.actions(),
                every_failure: framework.has_every_failure(),
                tools_only: framework.needs_tool(),
            },
            available_start_time: ground.available_since().map(moment),
            retention_ended: ground
                .kept_since
                .iter()
                .map(|(classification, since)| Ended {
                    classification: classification.clone(),
                    kept_since: moment(*since),
                })
                .collect(),
            generate_time: moment(ground.generate_time),
            generator: format!("toolcrib {}", env!("CARGO_PKG_VERSION")),
            verifier_key,
            columns: form
                .columns
                .list()
                .into_iter()
                .map(|(name, meaning)| ColumnText { name, meaning })
                .collect(),
            notes: form.notes.to_vec(),
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("texts and lists are serializable")
    }
}
