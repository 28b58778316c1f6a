//! Looks again at what had not ended, and at what was found: a finding is explained once it is not so any more. Bounded a
//! turn, and in turn.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use uuid::Uuid;

use super::{PAGE, Reconciler};
use crate::{
    Error,
    peers::Intent,
    store::{self, FindingRow},
    verdict::{Kind, Verdict, verdict},
};

/// Pages of executions that are looked at again in one turn.
const PAGES: usize = 20;
/// How long a finding is shown that names no execution.
const NAMELESS: TimeDelta = TimeDelta::days(1);

impl Reconciler {
    pub(super) async fn look_again(&self, team: &str) -> Result<(), Error> {
        let begun = Utc::now();
        for _ in 0..PAGES {
            let ids = store::unended_take(self.database.pool()?, team, begun, PAGE.into()).await?;
            if ids.is_empty() {
                break;
            }
            self.look_at(team, &ids).await?;
        }
        self.explain(team).await
    }

    /// Those that are sound are forgotten; what is wrong becomes a finding; the others wait on.
    async fn look_at(&self, team: &str, ids: &[Uuid]) -> Result<(), Error> {
        let intents = self.peers.intents_of(team, ids).await?;
        let compared = self.compare(team, &intents).await?;
        self.note(team, &compared.found).await?;
        let waits = |id: &Uuid| compared.waiting.contains(id);
        let over: Vec<Uuid> = ids.iter().copied().filter(|id| !waits(id)).collect();
        Ok(store::unended_remove(self.database.pool()?, team, &over).await?)
    }

    /// Explains findings that are not so any more.
    pub(super) async fn explain(&self, team: &str) -> Result<(), Error> {
        let pool = self.database.pool()?;
        let mut after = Uuid::nil();
        loop {
            let findings = store::findings_explainable(pool, team, after, PAGE.into()).await?;
            let Some(last) = findings.last() else { return Ok(()) };
            after = last.id;
            let explained = self.explained(team, &findings).await?;
            if !explained.is_empty() {
                store::findings_resolve(pool, team, &explained).await?;
                tracing::info!(team.id = team, findings = explained.len(), "what was found is explained");
            }
        }
    }

    async fn explained(&self, team: &str, findings: &[FindingRow]) -> Result<Vec<Uuid>, Error> {
        let ids: Vec<Uuid> = findings.iter().map(|finding| finding.execution_id).collect();
        let intents = self.peers.intents_of(team, &ids).await?;
        let known: HashMap<Uuid, Intent> = intents.into_iter().map(|intent| (intent.id, intent)).collect();
        let oldest = ids.iter().min().copied().unwrap_or_default();
        let pool = self.database.pool()?;
        let traces = store::traces_get(pool, team, &ids, super::floor(oldest)).await?;
        let (mut explained, now) = (Vec::new(), Utc::now());
        for finding in findings {
            let id = finding.execution_id;
            if id.is_nil() {
                // An event that was refused and named no execution: nothing can come that explains it.
                explained.extend(Some(finding.id).filter(|_| now - finding.find_time > NAMELESS));
                continue;
            }
            let traces = traces.get(&id).copied().unwrap_or_default();
            match verdict(known.get(&id).map(|intent| intent.known), traces, now, self.grace) {
                Verdict::Sound => explained.push(finding.id),
                // Its intent is there; what becomes of its outcome is seen later.
                Verdict::Wait if finding.kind == Kind::IntentMissing.as_str() => {
                    store::unended_add(pool, team, &[id]).await?;
                    explained.push(finding.id);
                }
                Verdict::Found(kind, told) if kind.as_str() != finding.kind => {
                    self.note(team, &[(id, kind, told)]).await?;
                    explained.push(finding.id);
                }
                Verdict::Wait | Verdict::Found(..) => {}
            }
        }
        Ok(explained)
    }
}
