//! The rows of a report as its file has them: how many, and of each what shows that none is missing. In CSV a field may
//! hold line breaks, so a row may be several lines.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Format;
use crate::{Hash, Header, header};

/// Longest row of CSV, in bytes.
const LONGEST_ROW: usize = 64 * 1024 * 1024;

/// A value of a leaf as a row has it.
type OfLeaf = fn(&Header) -> String;

/// Columns, by their names in all frameworks, whose values are those of the leaf.
const OF_LEAF: [(&str, OfLeaf); 32] = [
    ("action", |of| of.action.clone()),
    ("agent_id", |of| of.agent_id.clone()),
    ("begin_time", |of| of.intent_time.map(header::time).unwrap_or_default()),
    ("category", |of| of.classification.clone()),
    ("checked_against", checked_against),
    ("classification", |of| of.classification.clone()),
    ("date", |of| header::time(of.event_time)),
    ("decision_id", |of| of.decision_id.clone()),
    ("disclosed_by", |of| of.agent_id.clone()),
    ("duration_us", |of| of.duration_us.to_string()),
    ("end_time", |of| header::time(of.event_time)),
    ("erasure_id", |of| of.id.clone()),
    ("event_id", |of| of.id.clone()),
    ("execution_id", |of| of.execution_id.clone()),
    ("ground", |of| of.reason.clone()),
    ("on_behalf_of", |of| of.subject_id.clone()),
    ("purpose", |of| of.task_id.clone()),
    ("reason", |of| of.reason.clone()),
    ("recipient", |of| of.tool_name.clone()),
    ("recipient_digest", |of| of.tool_digest.clone()),
    ("recipient_version", |of| of.tool_version.clone()),
    ("request_time", |of| header::time(of.event_time)),
    ("requested_by", |of| of.agent_id.clone()),
    ("result", |of| of.result.clone()),
    ("source", |of| of.agent_id.clone()),
    ("subject_id", |of| of.subject_id.clone()),
    ("task_id", |of| of.task_id.clone()),
    ("time", |of| header::time(of.event_time)),
    ("tool_name", |of| of.tool_name.clone()),
    ("tool_version", |of| of.tool_version.clone()),
    ("trace_id", |of| of.trace_id.clone()),
    ("who", |of| of.agent_id.clone()),
];

fn checked_against(of: &Header) -> String {
    let parts = [of.tool_name.as_str(), &of.tool_version, &of.tool_digest];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A row of one record: where it is in the tree, and a digest of the columns that its leaf has, too.
#[derive(Debug)]
pub(super) struct LeafRow {
    pub index: u64,
    pub hash: Hash,
    /// Which of [`OF_LEAF`] the row has: a bit each.
    columns: u32,
    digest: [u8; 32],
}

impl LeafRow {
    /// Whether it says what this leaf says.
    pub fn is_of(&self, header: &Header) -> bool {
        let (columns, digest) =
            digest_of(&|at, _| ((self.columns >> at) & 1 == 1).then(|| OF_LEAF[at].1(header)));
        (columns, digest) == (self.columns, self.digest)
    }
}

/// Which columns there are, and a digest of them.
fn digest_of(of: &dyn Fn(usize, &str) -> Option<String>) -> (u32, [u8; 32]) {
    let (mut columns, mut digest) = (0, Sha256::new());
    for (at, (name, _)) in OF_LEAF.iter().enumerate() {
        if let Some(value) = of(at, name) {
            columns |= 1 << at;
            let value = plain(&value);
            digest.update((value.len() as u64).to_be_bytes());
            digest.update(value);
        }
    }
    (columns, digest.finalize().into())
}

/// What was made harmless for spreadsheets, as it was.
fn plain(field: &str) -> &str {
    let formula = field.strip_prefix('\'').filter(|text| text.starts_with(['=', '+', '-', '@', '\t', '\r']));
    formula.unwrap_or(field)
}

/// Rows read so far.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// How many there are.
    pub count: u64,
    /// Each row of one record.
    pub leaves: Vec<LeafRow>,
    /// Records by tool and classification, of rows that stand for many.
    pub groups: BTreeMap<(String, String), u64>,
    /// How many rows stand for many.
    pub grouped: u64,
    /// Names of the columns, of CSV.
    columns: Option<Vec<String>>,
    /// A row of CSV that goes on.
    open: String,
    /// Whether a quote is open in it.
    is_quoted: bool,
}

impl Rows {
    /// Reads a line that is neither the first nor the last; what is wrong otherwise.
    pub fn read(&mut self, format: Format, line: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is no text")?;
        match format {
            Format::Html => Ok(()),
            Format::Jsonl => {
                let row: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
                let of = |name: &str| match &row[name] {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                self.row(&of)
            }
            Format::Csv => self.csv(text),
        }
    }

    fn csv(&mut self, text: &str) -> Result<(), String> {
        if self.open.len() + text.len() > LONGEST_ROW {
            return Err(format!("its row is longer than {LONGEST_ROW} bytes"));
        }
        self.open += text;
        self.is_quoted ^= text.matches('"').count() % 2 == 1;
        if self.is_quoted {
            return Ok(());
        }
        let fields = fields(&std::mem::take(&mut self.open)).ok_or("it is no line of CSV (RFC 4180)")?;
        let Some(columns) = self.columns.clone() else {
            if let Some(twice) = fields.iter().enumerate().find(|(at, name)| fields[..*at].contains(name)) {
                return Err(format!("it has the column {} twice", twice.1));
            }
            self.columns = Some(fields);
            return Ok(());
        };
        if columns.len() != fields.len() {
            return Err(format!("it has {} fields, and there are {} columns", fields.len(), columns.len()));
        }
        let at = |name: &str| columns.iter().position(|column| column == name);
        self.row(&|name: &str| at(name).and_then(|at| fields.get(at).cloned()))
    }

    fn row(&mut self, of: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        self.count += 1;
        if let Some(index) = of("leaf_index") {
            let hash = of("leaf_hash").and_then(|hash| from_hex(&hash));
            let leaf = index.parse().ok().zip(hash);
            let (index, hash) = leaf.ok_or("its leaf_index or leaf_hash cannot be read")?;
            let (columns, digest) = digest_of(&|_, name| of(name));
            self.leaves.push(LeafRow { index, hash, columns, digest });
        } else if let (Some(tool), Some(class), Some(records)) =
            (of("tool_name"), of("classification"), of("records"))
        {
            let records: u64 = records.parse().map_err(|_| "its number of records cannot be read")?;
            let sum = self.groups.entry((tool, class)).or_default();
            *sum = sum.checked_add(records).ok_or("its number of records is too large")?;
            self.grouped += 1;
        }
        Ok(())
    }

    /// Whether nothing is left open.
    pub fn is_ended(&self) -> bool {
        self.open.is_empty()
    }
}

/// The fields of a row of CSV; `None`: it is none.
fn fields(row: &str) -> Option<Vec<String>> {
    let row = row.strip_suffix("\r\n")?;
    let (mut fields, mut rest) = (Vec::new(), row);
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => rest
                .split_once(',')
                .map_or((rest.to_owned(), None), |(one, more)| (one.to_owned(), Some(more))),
            Some(quoted) => {
                let (mut end, mut from) = (None, 0);
                while let Some(at) = quoted.get(from..)?.find('"').map(|at| from + at) {
                    if quoted.get(at + 1..)?.starts_with('"') {
                        from = at + 2;
                    } else {
                        end = Some(at);
                        break;
                    }
                }
                let (field, behind) = (quoted.get(..end?)?, quoted.get(end? + 1..)?);
                let behind = if behind.is_empty() { None } else { Some(behind.strip_prefix(',')?) };
                (field.replace("\"\"", "\""), behind)
            }
        };
        fields.push(plain(&field).to_owned());
        match behind {
            Some(more) => rest = more,
            None => return Some(fields),
        }
    }
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| Hash(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_csv_is_read_with_its_quotes_breaks_and_what_was_made_harmless() {
        assert_eq!(fields("a,,\"b,\"\"c\r\nd\"\r\n").unwrap(), ["a", "", "b,\"c\r\nd"]);
        assert_eq!(fields("'=1+1,'plain,\"'@x,y\"\r\n").unwrap(), ["=1+1", "'plain", "@x,y"]);
        assert_eq!((fields("a\n"), fields("\"a\"b\r\n"), fields("\"a\r\n")), (None, None, None));
    }
}
