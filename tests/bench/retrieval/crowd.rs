//! Made-up tools, as many as are wanted and always the same ones, to see what a large catalog costs. Must never be used
//! where quality is measured.

use proto::registry::v1::ToolDefinition;

const SYSTEMS: [&str; 20] = [
    "accounting",
    "archive",
    "billing",
    "booking",
    "campaign",
    "cluster",
    "directory",
    "fleet",
    "helpdesk",
    "laboratory",
    "library",
    "logistics",
    "payroll",
    "procurement",
    "publishing",
    "recruiting",
    "shop",
    "studio",
    "vault",
    "warehouse",
];
const OBJECTS: [&str; 25] = [
    "account",
    "alert",
    "appointment",
    "article",
    "attachment",
    "budget",
    "certificate",
    "contract",
    "customer",
    "device",
    "document",
    "employee",
    "event",
    "invoice",
    "label",
    "message",
    "order",
    "payment",
    "permission",
    "project",
    "report",
    "shipment",
    "subscription",
    "task",
    "template",
];
const VERBS: [(&str, &str); 20] = [
    ("approve", "Gives its consent to"),
    ("archive", "Puts away for good"),
    ("assign", "Hands over to somebody"),
    ("cancel", "Calls off"),
    ("clone", "Makes a second one like"),
    ("compare", "Tells the differences between two of"),
    ("count", "Says how many there are of"),
    ("create", "Makes a new"),
    ("delete", "Removes"),
    ("export", "Saves as a file"),
    ("find", "Looks up by words"),
    ("import", "Reads from a file"),
    ("list", "Gives page by page each"),
    ("lock", "Keeps others from changing"),
    ("merge", "Joins into one"),
    ("notify", "Sends word of"),
    ("restore", "Brings back"),
    ("schedule", "Plans for later"),
    ("share", "Lets others see"),
    ("update", "Changes"),
];

/// The first so many of 10,000 tools: the words of each occur in many others, no two are equal, and lengths differ.
pub fn tools(count: usize) -> Vec<ToolDefinition> {
    (0..count).map(tool).collect()
}

fn tool(index: usize) -> ToolDefinition {
    let (verb, does) = VERBS[index % VERBS.len()];
    let object = OBJECTS[index / VERBS.len() % OBJECTS.len()];
    let system = SYSTEMS[index / (VERBS.len() * OBJECTS.len()) % SYSTEMS.len()];
    let description = match index % 3 {
        0 => format!("{does} the {object} in the {system} system."),
        1 => format!(
            "{does} the {object} of the {system}, with its history and everyone who takes part in it."
        ),
        _ => format!(
            "{does} the {object} that the {system} keeps. Needs the right to change it there, and answers with what the \
             {object} looks like afterwards."
        ),
    };
    let schema = match index % 2 {
        0 => format!(r#"{{"type":"object","properties":{{"{object}_id":{{"type":"string"}}}}}}"#),
        _ => format!(
            r#"{{"type":"object","properties":{{"{object}_id":{{"type":"string","description":"Which {object}."}},
            "note":{{"type":"string","description":"Why, for people."}},"dry_run":{{"type":"boolean"}}}}}}"#
        ),
    };
    ToolDefinition {
        name: format!("{system}_{verb}_{object}"),
        description,
        input_schema_json: schema,
        ..ToolDefinition::default()
    }
}
