//! For what kind of work a tool was called. Never asks anyone: what the selection or the catalog's copy knows must do.

use catalog::Catalog;
use types::Category;

/// The category of the task: as its selection was told or took it to be, else of the work that the tool does, else
/// custom. A word of a newer version counts as custom.
pub(crate) fn kind(of_selection: Option<&str>, catalog: &Catalog, team: &str, tool: &str) -> Category {
    if let Some(word) = of_selection.filter(|word| !word.is_empty()) {
        return word.parse().unwrap_or(Category::Custom);
    }
    let tool = catalog.find(team, tool);
    let definition = tool.as_ref().and_then(|tool| tool.definition.as_ref());
    definition.and_then(|definition| definition.category().into()).unwrap_or(Category::Custom)
}
