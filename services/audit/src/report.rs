//! Reports for frameworks: the rows that the law asks for, streamed, signed, and complete or refused. A few hundred
//! records at a time are in memory. Which records a report has is for `trail::report::Query` to say, so that anybody can
//! check it by an export. Must never give a report over a gap, nor name an end user in the event that tells of it.

mod asked;
mod charts;
mod csv;
mod eu_ai_act;
mod form;
mod gap;
mod gdpr_access;
mod gdpr_erasure;
mod gdpr_processing;
mod head;
mod hipaa_audit_controls;
mod hipaa_disclosures;
mod html;
mod jsonl;
mod soc2_cc7;
mod write;

use std::collections::HashMap;

use ::store::Database;
use chrono::{DateTime, Utc};
use futures_util::stream::{self, Stream};
use proto::audit::v1::{Action, Result as Outcome};
use trail::{
    RangeProof, leaf_hash,
    report::{Format, Framework},
};
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Signer,
    append::Journal,
    config::RetentionDays,
    payload::{self, Draft, Opener},
    prove::{self, number},
    reconcile::Reconciler,
    store::{self, Selection, Tree},
};
pub(crate) use asked::Asked;
use form::{Columns, Entry, Form, Group, cells, moment};
use write::Writer;

/// Records of one look into the database.
const PAGE: i64 = 500;
/// Bytes after which they are sent.
const ENOUGH: usize = 128 * 1024;

/// Makes reports. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Reports {
    pub database: Database,
    pub journal: Journal,
    pub signer: Signer,
    pub reconciler: Reconciler,
    pub retention: RetentionDays,
}

/// A part of the file.
#[derive(Debug)]
pub(crate) struct Part {
    pub content: Vec<u8>,
    /// Rows so far.
    pub rows: u64,
}

/// What a framework's report looks like.
fn form_of(framework: Framework) -> &'static Form {
    match framework {
        Framework::GdprAccess => &gdpr_access::FORM,
        Framework::GdprErasure => &gdpr_erasure::FORM,
        Framework::GdprProcessing => &gdpr_processing::FORM,
        Framework::HipaaAuditControls => &hipaa_audit_controls::FORM,
        Framework::HipaaDisclosures => &hipaa_disclosures::FORM,
        Framework::Soc2Cc7 => &soc2_cc7::FORM,
        Framework::EuAiActRecords => &eu_ai_act::FORM,
    }
}

/// What a report is made from: settled before its first byte.
pub(crate) struct Ground {
    pub team: String,
    pub asked: Asked,
    pub subjects: Option<Vec<Uuid>>,
    pub tree: Tree,
    /// Indexes of the leaves that are looked through.
    pub leaves: (u64, u64),
    pub proof: RangeProof,
    /// Classifications of which older records have come to the end of their retention, and since when they are kept.
    pub kept_since: Vec<(String, DateTime<Utc>)>,
    pub generate_time: DateTime<Utc>,
    pub selection: Selection,
    pub rows: u64,
}

impl Ground {
    /// From when on every record is kept, where the period reaches further back.
    pub(crate) fn available_since(&self) -> Option<DateTime<Utc>> {
        self.kept_since.iter().map(|(_, since)| *since).max().filter(|since| *since > self.asked.start)
    }
}

impl Reports {
    /// Begins a report, which is an event of the trail itself, and gives its file.
    pub(crate) async fn generate(
        &self,
        caller: &Caller,
        asked: Asked,
    ) -> Result<impl Stream<Item = Result<Part, Error>> + Send + use<>, Error> {
        let ground = self.ground(&caller.team, asked).await?;
        self.journal.append(vec![told(caller, &ground)]).await?;
        let form = form_of(ground.asked.framework);
        let writer =
            Writer::new(&ground, form, &self.signer.origin(&ground.team), self.signer.verifier_key());
        let making = Making { reports: self.clone(), form, writer, rows: 0, is_done: false, ground };
        Ok(stream::try_unfold(making, |mut making| async move {
            Ok(making.next().await?.map(|part| (part, making)))
        }))
    }

    async fn ground(&self, team: &str, asked: Asked) -> Result<Ground, Error> {
        let subjects = self.subjects(team, &asked.user).await?;
        self.compare(team, &asked).await?;
        let tree = gap::signed(&self.database, team, asked.end).await?;
        let leaves = gap::leaves(&self.database, team, &tree, &asked).await?;
        gap::refuse(&self.database, team, &tree, &asked).await?;
        let pool = self.database.pool()?;
        let size = number(tree.size);
        let tiles = prove::tiles(&self.database, team, &trail::for_range(leaves.0, leaves.1, size)).await?;
        let proof = trail::range(&tiles, leaves.0, leaves.1, size).map_err(Error::broken)?;
        let position = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        let framework = asked.framework;
        let selection = Selection {
            after: position(leaves.0),
            until: position(leaves.1),
            start: asked.start,
            end: asked.end,
            actions: framework.actions().map(|actions| actions.into_iter().map(str::to_owned).collect()),
            failures: framework.has_every_failure(),
            with_tool: framework.needs_tool(),
            subjects: subjects.clone(),
        };
        let rows = if framework.is_grouped() {
            store::report_groups(pool, team, &selection).await?.len() as u64
        } else {
            number(store::report_count(pool, team, &selection).await?)
        };
        let mut kept_since = store::kept_since_list(pool, team).await?;
        kept_since.retain(|(_, since)| *since > asked.start);
        kept_since.sort();
        Ok(Ground {
            team: team.to_owned(),
            asked,
            subjects,
            tree,
            leaves,
            proof,
            kept_since,
            generate_time: payload::micros(Utc::now()),
            selection,
            rows,
        })
    }

    /// Every pseudonym that a user has, and had before an erasure; `None`: of whomever.
    async fn subjects(&self, team: &str, user: &str) -> Result<Option<Vec<Uuid>>, Error> {
        if user.is_empty() {
            return Ok(None);
        }
        let digest = self.journal.subjects.digest(team, user).await?;
        let mut connection = self.database.pool()?.acquire().await.map_err(::store::Error::from)?;
        let wanted = [(team, digest.as_slice())];
        let live = store::subjects_find(&mut connection, &wanted).await?;
        let erased = store::erased_find(&mut connection, &wanted).await?;
        let mut subjects: Vec<Uuid> = live.into_iter().map(|row| row.subject_id).collect();
        subjects.extend(erased.into_iter().filter_map(|row| row.subject_id));
        subjects.sort_unstable();
        subjects.dedup();
        Ok(Some(subjects))
    }

    /// Compares executions with the trail as far as the last turn did not: what is missing must be known first.
    async fn compare(&self, team: &str, asked: &Asked) -> Result<(), Error> {
        let watermark = store::watermark_get(self.database.pool()?, team).await?;
        let until = watermark.map_or(DateTime::UNIX_EPOCH, |watermark| watermark.until_time);
        if until < asked.end {
            crate::reconcile::reconcile(&self.reconciler, team, Some(until.max(asked.start - gap::MARGIN)))
                .await?;
        }
        Ok(())
    }
}

/// The event of a report. An end user is in it by pseudonym alone.
fn told(caller: &Caller, ground: &Ground) -> Draft {
    let Asked { framework, start, end, format, .. } = &ground.asked;
    let (start, end) = (moment(*start), moment(*end));
    let mut message = format!(
        "report {} ({}) from {start} to before {end}: {} rows",
        framework.name(),
        format.name(),
        ground.rows
    );
    if let Some(subjects) = &ground.subjects {
        let ids: Vec<String> = subjects.iter().map(Uuid::to_string).collect();
        message += ", data subject ";
        message += &if ids.is_empty() { "unknown".to_owned() } else { ids.join(", ") };
    }
    Draft::own(&caller.team, &caller.agent, Action::ReportGenerated, Outcome::Success, message)
}

/// A report under way.
struct Making {
    reports: Reports,
    form: &'static Form,
    ground: Ground,
    writer: Writer,
    rows: u64,
    is_done: bool,
}

impl Making {
    /// The next part; `None`: that was all.
    async fn next(&mut self) -> Result<Option<Part>, Error> {
        while !self.is_done && self.writer.len() < ENOUGH {
            match &self.form.columns {
                Columns::Records(columns) => {
                    let entries = self.entries().await?;
                    for entry in &entries {
                        self.writer.record(&entry.record);
                        self.writer.row(&cells(columns, entry));
                    }
                    self.rows += entries.len() as u64;
                    self.is_done = (entries.len() as u64) < PAGE.unsigned_abs();
                }
                Columns::Groups(columns) => {
                    self.rows = self.groups(columns).await?;
                    self.is_done = true;
                }
            }
            if self.is_done {
                self.end()?;
            }
        }
        let content = self.writer.take();
        Ok((!content.is_empty()).then_some(Part { content, rows: self.rows }))
    }

    async fn groups(&mut self, columns: &[form::Column<Group>]) -> Result<u64, Error> {
        if self.ground.asked.format == Format::Html {
            // The sums of the page are over records.
            while !self.page().await?.is_empty() {}
            self.ground.selection.after = i64::try_from(self.ground.leaves.0).unwrap_or(i64::MAX);
        }
        let (pool, retention) = (self.reports.database.pool()?, self.reports.retention);
        let groups = store::report_groups(pool, &self.ground.team, &self.ground.selection).await?;
        let rows = groups.len() as u64;
        for row in groups {
            self.writer.row(&cells(columns, &Group { row, retention }));
        }
        Ok(rows)
    }

    /// The next records; each is told to the writer where rows are not.
    async fn page(&mut self) -> Result<Vec<store::RecordRow>, Error> {
        let pool = self.reports.database.pool()?;
        let rows = store::report_records(pool, &self.ground.team, &self.ground.selection, PAGE).await?;
        if let Some(last) = rows.last() {
            self.ground.selection.after = last.sequence;
        }
        if self.form_is_grouped() {
            for row in &rows {
                self.writer.record(row);
            }
        }
        Ok(rows)
    }

    fn form_is_grouped(&self) -> bool {
        matches!(self.form.columns, Columns::Groups(_))
    }

    async fn entries(&mut self) -> Result<Vec<Entry>, Error> {
        let rows = self.page().await?;
        let (reports, has_payload) = (&self.reports, self.form.has_payload);
        let opener =
            if has_payload { reports.journal.subjects.opener(&rows).await? } else { Opener::default() };
        let mut erasures = HashMap::new();
        if self.ground.asked.framework == Framework::GdprErasure {
            let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
            let found = store::erasures_get(reports.database.pool()?, &self.ground.team, &ids).await?;
            erasures.extend(found.into_iter().map(|erasure| (erasure.id, erasure)));
        }
        let mut entries = Vec::with_capacity(rows.len());
        for record in rows {
            entries.push(Entry {
                payload: if has_payload { opener.payload(&record)? } else { None },
                hash: leaf_hash(&payload::header(&record).leaf()),
                retention: reports.retention,
                erasure: erasures.remove(&record.id),
                record,
            });
        }
        Ok(entries)
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.rows != self.ground.rows {
            let why = "records came to the end of their retention while the report was made; try again";
            return Err(Error::Unready(why.to_owned()));
        }
        self.writer.end(&self.ground, &self.reports.signer);
        Ok(())
    }
}
