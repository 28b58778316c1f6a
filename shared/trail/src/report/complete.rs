//! Whether a report has every row that it must have, and no other: by an export of the leaves that it was made from. The
//! export must be verified beside this, or nothing is shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Checked, Format, Query, rows::LeafRow};
use crate::{Hash, Header, RangeVerifier, export, leaf_hash};

/// Compares a report with an export, line by line.
#[derive(Debug)]
pub struct Completeness<'a> {
    report: &'a Checked,
    query: Query,
    /// Of the leaves of the report's range; of those that have ended, the hashes that are left.
    range: RangeVerifier,
    /// Leaves of the range that were seen.
    seen: u64,
    /// Rows that were matched.
    matched: usize,
    groups: BTreeMap<(String, String), u64>,
    wrong: Option<String>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    leaf: Option<&'a RawValue>,
    index: Option<u64>,
    ended: Option<String>,
}

impl<'a> Completeness<'a> {
    /// Of a report; what is wrong with it otherwise.
    pub fn new(report: &'a Checked) -> Result<Self, String> {
        if report.format == Format::Html {
            return Err("a page has no rows to compare; ask for the report as jsonl or csv".into());
        }
        let Checked { summary, proof, .. } = report;
        let range = RangeVerifier::new(summary.begin, summary.size, proof)
            .map_err(|error| format!("its proof of the range: {error}"))?;
        let query = summary.query()?;
        let rows = &report.rows;
        let (of_records, of_groups) = (rows.leaves.len() as u64, rows.grouped);
        let is_of_kind = if query.framework.is_grouped() {
            of_records == 0 && of_groups == summary.rows
        } else {
            of_records == summary.rows
        };
        if !is_of_kind {
            return Err("the report has rows that name no record, or none that can be compared".into());
        }
        let groups = BTreeMap::new();
        Ok(Self { report, query, range, seen: 0, matched: 0, groups, wrong: None })
    }

    /// Reads a line of the export, which its verifier has just read.
    pub fn read(&mut self, line: &[u8], verifier: &export::Verifier) {
        let Ok(record) = serde_json::from_slice::<Record<'_>>(line) else { return };
        let summary = &self.report.summary;
        let range = summary.begin..summary.end;
        if let (Some(_), Some(index)) = (&record.ended, record.index) {
            if range.contains(&index) {
                self.seen += 1;
                match verifier.leaf_hash(index) {
                    Some(hash) => self.push(hash),
                    None => self.tell(format!("the export does not have the hash of record {index}")),
                }
            }
            return;
        }
        let Some(leaf) = record.leaf else { return };
        let Ok(header) = Header::parse(leaf.get().as_bytes()) else { return };
        let Ok(index) = u64::try_from(header.index) else { return };
        if !range.contains(&index) {
            return;
        }
        self.seen += 1;
        let hash = leaf_hash(leaf.get().as_bytes());
        self.push(hash);
        if self.query.selects(&header) {
            self.expect(&header, index, hash);
        }
    }

    fn push(&mut self, hash: Hash) {
        if let Err(error) = self.range.push(hash) {
            self.tell(format!("the leaves of the export are not those of the report's tree: {error}"));
        }
    }

    fn expect(&mut self, header: &Header, index: u64, hash: Hash) {
        if self.query.framework.is_grouped() {
            let group = (header.tool_name.clone(), header.classification.clone());
            *self.groups.entry(group).or_default() += 1;
            return;
        }
        let id = &header.id;
        match self.report.rows.leaves.get(self.matched) {
            Some(row) if row.index == index && row.hash == hash && row.is_of(header) => self.matched += 1,
            Some(row) if row.index == index => {
                self.tell(format!("the row of record {index} ({id}) is not of the record in the export"));
            }
            Some(LeafRow { index: at, .. }) if *at < index => {
                self.tell(format!("the report has a row of record {at}, which is none that it must have"));
            }
            _ => self.tell(format!("the report has no row of record {index} ({id})")),
        }
    }

    fn tell(&mut self, wrong: String) {
        self.wrong.get_or_insert(wrong);
    }

    /// Ends the export, of which that came out; what is wrong otherwise.
    pub fn finish(mut self, export: &export::Report) -> Result<(), String> {
        let summary = &self.report.summary;
        if let Some(fault) = export.first() {
            return Err(format!("the export is not whole, so that it shows nothing: {fault}"));
        }
        if export.ended_unshown > 0 {
            return Err(format!(
                "the export does not show why {} records have ended, so that rows of them may be missing: take one with \
                 payloads that reaches to the end of the trail",
                export.ended_unshown
            ));
        }
        let manifest = export.manifest.as_ref().ok_or("the export has no manifest")?;
        if manifest.origin != summary.origin {
            return Err(format!("the export is of the trail {}, not of {}", manifest.origin, summary.origin));
        }
        let leaves = summary.end - summary.begin;
        if leaves > 0 && (manifest.begin > summary.begin || manifest.end < summary.end || self.seen != leaves)
        {
            return Err(format!(
                "the export has the records {} to before {}, and the report was made from {} to before {}",
                manifest.begin, manifest.end, summary.begin, summary.end
            ));
        }
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        if let Some(LeafRow { index, .. }) = self.report.rows.leaves.get(self.matched) {
            return Err(format!("the report has a row of record {index}, which is none that it must have"));
        }
        if self.query.framework.is_grouped() && self.groups != self.report.rows.groups {
            return Err("the report counts other records of a tool than the export has".into());
        }
        self.range
            .finish(&self.report.checkpoint.root)
            .map_err(|error| format!("the leaves of the export are not those of the report's tree: {error}"))
    }
}
