//! The task, and what the tool must satisfy: what is asked for, and whether it can be asked so.

use types::{Category, Sensitivity};

use crate::{Error, index::Index, nearest::nearest};

/// Most bytes of a task that are read.
pub(crate) const MAX_TASK: usize = 32_768;
/// Longest task id, in bytes.
const MAX_TASK_ID: usize = 256;
/// Most capabilities one request may ask for.
const MAX_CAPABILITIES: usize = 32;
/// Most alternatives.
const MAX_ALTERNATIVES: usize = 20;
/// Capabilities that may be asked for though no tool of the team has them (yet).
pub(crate) const CANONICAL: [&str; 7] =
    ["search", "retrieve", "analyze", "transform", "generate", "execute", "integrate"];

/// The task, and what the tool must satisfy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// At most [`MAX_TASK`] bytes.
    pub task: String,
    /// Bytes of the task that were read, where it was cut.
    pub cut_at: Option<usize>,
    /// In lower case.
    pub capabilities: Vec<String>,
    pub category: Option<Category>,
    /// 0: any.
    pub max_latency_ms: i64,
    pub max_cost_micro_usd: Option<i64>,
    pub max_sensitivity: Option<Sensitivity>,
    /// 0: any.
    pub available_time_ms: i64,
    pub alternatives: usize,
    pub task_id: String,
    pub explore: bool,
    /// `None`: as the settings say.
    pub model_help: Option<bool>,
}

impl Wanted {
    /// Takes as much of a task as is read, up to the end of a character.
    pub(crate) fn with_task(mut self, mut task: String) -> Self {
        if task.len() > MAX_TASK {
            let end = task.floor_char_boundary(MAX_TASK);
            task.truncate(end);
            task.shrink_to_fit();
            self.cut_at = Some(end);
        }
        self.task = task;
        self
    }

    /// Refuses what no tool could be selected for.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.task.trim().is_empty() && self.capabilities.is_empty() && self.category.is_none() {
            return Err(Error::invalid(
                "task",
                "is empty; say the task, a required capability or a category",
            ));
        }
        if self.task_id.len() > MAX_TASK_ID || self.task_id.contains(char::is_control) {
            let description = format!("must be at most {MAX_TASK_ID} bytes without control characters");
            return Err(Error::invalid("task_id", description));
        }
        if self.capabilities.len() > MAX_CAPABILITIES || self.capabilities.iter().any(String::is_empty) {
            let description = format!("must be at most {MAX_CAPABILITIES} words, none empty");
            return Err(Error::invalid("required_capabilities", description));
        }
        if self.alternatives > MAX_ALTERNATIVES {
            return Err(Error::invalid("alternatives", format!("must be 0 to {MAX_ALTERNATIVES}")));
        }
        let limits = [
            ("max_latency_ms", self.max_latency_ms),
            ("max_cost_micro_usd", self.max_cost_micro_usd.unwrap_or_default()),
            ("available_time_ms", self.available_time_ms),
        ];
        let negative = limits.into_iter().find(|(_, limit)| *limit < 0);
        negative.map_or(Ok(()), |(field, limit)| Err(Error::invalid(field, format!("is {limit}, below 0"))))
    }

    /// Refuses a capability that no tool of the team has and that is not canonical: most likely a slip of the pen.
    pub(crate) fn check_capabilities(&self, index: &Index) -> Result<(), Error> {
        let is_known =
            |asked: &str| CANONICAL.contains(&asked) || index.entries().any(|(_, entry)| entry.has(asked));
        let Some((place, asked)) = self.capabilities.iter().enumerate().find(|(_, asked)| !is_known(asked))
        else {
            return Ok(());
        };
        let of_tools = index.entries().flat_map(|(_, entry)| entry.capabilities.iter().map(String::as_str));
        let near = nearest(asked, CANONICAL.into_iter().chain(of_tools));
        let shown: String = asked.chars().take(64).collect();
        let remedy = if near.is_empty() {
            format!("the canonical ones are {}", CANONICAL.join(", "))
        } else {
            format!("the nearest: {}", near.join(", "))
        };
        let description = format!("no tool has {shown:?}; {remedy}");
        Err(Error::invalid(format!("required_capabilities[{place}]"), description))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_cut_at_the_end_of_a_character_and_that_is_said() {
        let wanted = Wanted::default().with_task("ü".repeat(MAX_TASK));
        assert_eq!((wanted.task.len(), wanted.cut_at), (MAX_TASK, Some(MAX_TASK)));
        let odd = Wanted::default().with_task(format!("x{}", "ü".repeat(MAX_TASK)));
        assert_eq!((odd.task.len(), odd.cut_at), (MAX_TASK - 1, Some(MAX_TASK - 1)));
        let whole = Wanted::default().with_task("x".repeat(MAX_TASK));
        assert_eq!((whole.task.len(), whole.cut_at), (MAX_TASK, None));
    }
}
