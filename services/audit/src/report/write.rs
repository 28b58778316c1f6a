//! Writes the file of a report, in whichever format, with the digest of all that stands before its end.

use sha2::{Digest as _, Sha256};
use trail::report::{End, Format, Summary, end_of_csv, end_of_html, end_of_jsonl};

use super::{
    Ground, csv,
    form::{Cell, Form, moment},
    head::Head,
    html, jsonl,
};
use crate::{Signer, prove::number, store::RecordRow};

/// The file so far.
pub(super) struct Writer {
    format: Format,
    head: Head,
    content: Vec<u8>,
    digest: Sha256,
    tally: html::Tally,
}

impl Writer {
    /// Begins a file.
    pub(super) fn new(ground: &Ground, form: &Form, origin: &str, verifier_key: String) -> Self {
        let format = ground.asked.format;
        let head = Head::new(ground, form, origin, verifier_key);
        let mut writer =
            Self { format, head, content: Vec::new(), digest: Sha256::new(), tally: html::Tally::default() };
        match format {
            Format::Jsonl => jsonl::head(&writer.head, &mut writer.content),
            Format::Csv => csv::head(&writer.head, &mut writer.content),
            Format::Html => {}
        }
        writer
    }

    /// Bytes that were not taken yet.
    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// A record that the report is about.
    pub(super) fn record(&mut self, record: &RecordRow) {
        if self.format == Format::Html {
            self.tally.record(record);
        }
    }

    /// A row.
    pub(super) fn row(&mut self, cells: &[Cell]) {
        match self.format {
            Format::Jsonl => jsonl::row(&self.head, cells, &mut self.content),
            Format::Csv => csv::row(cells, &mut self.content),
            Format::Html => self.tally.row(cells),
        }
    }

    /// Takes what was written since.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.digest.update(&self.content);
        std::mem::take(&mut self.content)
    }

    /// Ends and signs the file. Nothing can be written after it.
    pub(super) fn end(&mut self, ground: &Ground, signer: &Signer) {
        if self.format == Format::Html {
            self.content.extend_from_slice(html::page(&self.head, ground, &self.tally).as_bytes());
        }
        let asked = &ground.asked;
        let digest = self.digest.clone().chain_update(&self.content).finalize();
        let summary = Summary {
            available_start_time: ground.available_since().map(moment).unwrap_or_default(),
            begin: ground.leaves.0,
            digest: hex::encode(digest),
            end: ground.leaves.1,
            end_time: moment(asked.end),
            format: self.format.name().to_owned(),
            framework: asked.framework.name().to_owned(),
            generate_time: moment(ground.generate_time),
            origin: signer.origin(&ground.team),
            root: hex::encode(&ground.tree.root),
            rows: ground.rows,
            size: number(ground.tree.size),
            start_time: moment(asked.start),
            subject_ids: ground
                .subjects
                .as_ref()
                .map(|subjects| subjects.iter().map(ToString::to_string).collect()),
            team_id: ground.team.clone(),
        };
        let note = signer.note(&summary.text());
        let signed = (note.as_str(), self.head.verifier_key.as_str());
        let end = End::new(&ground.tree.checkpoint, ground.leaves, &ground.proof, ground.rows, signed);
        let line = match self.format {
            Format::Jsonl => end_of_jsonl(&end),
            Format::Csv => end_of_csv(&end),
            Format::Html => end_of_html(&end),
        };
        self.content.extend_from_slice(line.as_bytes());
    }
}
