//! Maps what all imports share: what is assumed of their tools, and what became of each. Decides nothing.

use prost::Message as _;
use proto::{registry::v1 as wire, types::v1 as words};

use crate::{
    Error,
    import::{Defaults, Imported, Outcome},
};

/// Most bytes of tools in one answer: a client takes 4 MiB in all.
const ANSWER_BYTES: usize = 3 * 1024 * 1024;

/// What a request assumes of its tools.
pub(super) fn defaults(defaults: Option<wire::ImportDefaults>) -> Result<Defaults, Error> {
    let defaults = defaults.unwrap_or_default();
    let unknown = |field: &str| Error::invalid(field, "is a number that the contract does not define");
    let category = words::Category::try_from(defaults.category).map_err(|_| unknown("defaults.category"))?;
    let sensitivity =
        words::Sensitivity::try_from(defaults.sensitivity).map_err(|_| unknown("defaults.sensitivity"))?;
    let defaults = Defaults {
        category: category.into(),
        capabilities: defaults.capabilities,
        sensitivity: sensitivity.into(),
        timeout_ms: defaults.timeout_ms,
        rate_limit_per_minute: defaults.rate_limit_per_minute,
        trust_effects: defaults.trust_effects,
    };
    defaults.check()?;
    Ok(defaults)
}

/// The tools of an answer, how many became what, and whether the answer does not hold them all.
pub(super) fn answer(imported: Vec<Imported>) -> (Vec<wire::ImportedTool>, wire::ImportCounts, bool) {
    let mut counts = wire::ImportCounts::default();
    let (mut tools, mut bytes, mut truncated) = (Vec::new(), 0, false);
    for each in imported {
        *match each.outcome {
            Outcome::Created => &mut counts.created,
            Outcome::Updated => &mut counts.updated,
            Outcome::Unchanged => &mut counts.unchanged,
            Outcome::Refused => &mut counts.refused,
        } += 1;
        let tool = tool(each);
        bytes += tool.encoded_len() + 8;
        truncated |= bytes > ANSWER_BYTES;
        if !truncated {
            tools.push(tool);
        }
    }
    (tools, counts, truncated)
}

fn tool(imported: Imported) -> wire::ImportedTool {
    let result = match imported.outcome {
        Outcome::Created => wire::ImportResult::Created,
        Outcome::Updated => wire::ImportResult::Updated,
        Outcome::Unchanged => wire::ImportResult::Unchanged,
        Outcome::Refused => wire::ImportResult::Refused,
    };
    wire::ImportedTool {
        name: imported.name,
        source: imported.source,
        result: result.into(),
        version: imported.version,
        note: imported.note,
        changes: super::review::changes(imported.changes),
    }
}
