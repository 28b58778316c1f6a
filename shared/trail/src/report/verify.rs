//! Reads the file of a report, line by line, and says whether it is what was signed. Keeps an index and a hash a row, to
//! compare them with an export.

use sha2::{Digest as _, Sha256};

use super::{End, Format, Summary, rows::Rows};
use crate::{Checkpoint, RangeProof, note::VerifierKey};

/// Reads a file.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<VerifierKey>,
    key_known: bool,
    format: Option<Format>,
    digest: Sha256,
    /// The line read last: the end, if no other follows.
    last: Vec<u8>,
    lines: u64,
    rows: Rows,
    wrong: Option<String>,
}

/// A report whose signature, digest and number of rows are right.
#[derive(Debug)]
pub struct Checked {
    /// What was signed.
    pub summary: Summary,
    /// The tree.
    pub checkpoint: Checkpoint,
    /// The key that signed, as `name+hash`.
    pub signed_by: String,
    /// Whether that key was given by whoever asks, not by the file alone.
    pub key_known: bool,
    pub(super) proof: RangeProof,
    pub(super) rows: Rows,
    pub(super) format: Format,
}

impl Verifier {
    /// Believes these keys; without any, the key that the file itself names, and says so.
    pub fn new(keys: Vec<VerifierKey>) -> Self {
        Self {
            key_known: !keys.is_empty(),
            keys,
            format: None,
            digest: Sha256::new(),
            last: Vec::new(),
            lines: 0,
            rows: Rows::default(),
            wrong: None,
        }
    }

    /// Reads the next line, with its newline.
    pub fn read(&mut self, line: &[u8]) {
        self.lines += 1;
        if self.lines == 1 {
            self.format = Format::of(line);
        } else {
            self.digest.update(&self.last);
            if self.lines > 2 {
                self.row();
            }
        }
        self.last.clear();
        self.last.extend_from_slice(line);
    }

    /// Takes the line before the one that is read now: neither the first nor the last.
    fn row(&mut self) {
        let Some(format) = self.format else { return };
        if self.wrong.is_none()
            && let Err(wrong) = self.rows.read(format, &self.last)
        {
            self.wrong = Some(format!("line {}: {wrong}", self.lines - 1));
        }
    }

    /// Ends the file; what is wrong otherwise.
    pub fn finish(self) -> Result<Checked, String> {
        let format = self.format.ok_or("it is no report")?;
        let end = End::read(format, &self.last)?;
        let named =
            VerifierKey::parse(&end.verifier_key).map_err(|error| format!("its verifier_key {error}"))?;
        let keys = if self.key_known { self.keys } else { vec![named.clone()] };
        if !keys.contains(&named) {
            return Err(format!("it is signed by {}, which is none of the keys given", named.id()));
        }
        let signer = std::slice::from_ref(&named);
        let summary =
            Summary::open(&end.summary, signer).map_err(|error| format!("its signature: {error}"))?;
        let checkpoint =
            Checkpoint::open(&end.checkpoint, &keys).map_err(|error| format!("its checkpoint: {error}"))?;
        if !summary.fits(&checkpoint.origin, checkpoint.size, &checkpoint.root) {
            return Err("its summary is about another tree than its checkpoint".into());
        }
        // Before what is wrong with a line: whoever changed one changed the digest.
        if hex::encode(self.digest.finalize()) != summary.digest {
            return Err("its digest is not the one that was signed: the file was changed".into());
        }
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let is_counted = format == Format::Html || self.rows.count == summary.rows && self.rows.is_ended();
        if !is_counted || end.rows != summary.rows {
            return Err(format!("it has {} rows, and {} were signed", self.rows.count, summary.rows));
        }
        let is_same =
            summary.format == format.name() && (end.leaf_begin, end.leaf_end) == (summary.begin, summary.end);
        let proof =
            end.proof().filter(|_| is_same).ok_or("its end says something else than what was signed")?;
        Ok(Checked {
            summary,
            checkpoint,
            signed_by: named.id(),
            key_known: self.key_known,
            proof,
            rows: self.rows,
            format,
        })
    }
}
