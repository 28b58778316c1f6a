//! The rows of the table: which calls are made, where, and for which kind of tool.

use executor::measure::Rung;
use serde::Serialize;

/// Where calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Place {
    /// tonic alone: client, one socket, handler.
    #[serde(rename = "tonic alone")]
    Tonic,
    /// Client and services in one process, no socket at all.
    #[serde(rename = "in process")]
    InProcess,
    /// Every service in one process, reached through the edge over one socket.
    #[serde(rename = "all in one")]
    AllInOne,
    /// Edge, executor and the rest in three processes.
    #[serde(rename = "split")]
    Split,
    /// As all in one, with rates counted in Redis.
    #[serde(rename = "with Redis")]
    Redis,
    /// A real MCP server, directly.
    #[serde(rename = "MCP server")]
    Mcp,
}

/// What the tool does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// It makes no difference here.
    #[serde(rename = "any")]
    Any,
    /// Nothing: records need not be flushed.
    #[serde(rename = "READ_ONLY")]
    Reads,
    /// Something: intent and outcome are flushed.
    #[serde(rename = "SIDE_EFFECT")]
    Effects,
}

/// How far calls go; each step includes those before it, from the driver on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Echo,
    EchoTwoCommits,
    Driver,
    Authenticate,
    Authorize,
    ValidateInput,
    ValidateOutput,
    Limit,
    Intent,
    Outcome,
    Audit,
    RequestId,
    Mcp,
}

/// One row, before it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub place: Place,
    pub kind: Kind,
    pub step: Step,
}

impl Place {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tonic => "tonic alone",
            Self::InProcess => "in process",
            Self::AllInOne => "all in one",
            Self::Split => "split",
            Self::Redis => "with Redis",
            Self::Mcp => "MCP server",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Reads => "READ_ONLY",
            Self::Effects => "SIDE_EFFECT",
        }
    }
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoTwoCommits => "echo + 2 group commits",
            Self::Driver => "driver",
            Self::Authenticate => "+ authenticate",
            Self::Authorize => "+ authorize, quota",
            Self::ValidateInput => "+ validate in",
            Self::ValidateOutput => "+ validate out",
            Self::Limit => "+ limit",
            Self::Intent => "+ intent",
            Self::Outcome => "+ outcome, outbox",
            Self::Audit => "+ audit (all on)",
            Self::RequestId => "all on, request id",
            Self::Mcp => "MCP echo",
        }
    }

    /// Index of the rung at which its calls end; `None`: they are whole.
    pub fn rung(self) -> Option<usize> {
        let rung = match self {
            Self::Driver | Self::Authenticate => Rung::Driver,
            Self::Authorize => Rung::Authorize,
            Self::ValidateInput => Rung::ValidateInput,
            Self::ValidateOutput => Rung::ValidateOutput,
            Self::Limit => Rung::Limit,
            Self::Intent => Rung::Intent,
            Self::Echo | Self::EchoTwoCommits | Self::Outcome | Self::Audit | Self::RequestId | Self::Mcp => {
                return None;
            }
        };
        Rung::ALL.iter().position(|known| *known == rung)
    }

    /// Whether its calls leave events behind.
    pub fn writes_events(self) -> bool {
        matches!(self, Self::Outcome | Self::Audit | Self::RequestId | Self::Mcp)
    }
}

impl Row {
    /// Its name, as `--only` looks for it.
    pub fn name(self) -> String {
        format!("{} / {} / {}", self.place.as_str(), self.kind.as_str(), self.step.as_str())
    }
}

/// The steps that are the same for every kind of tool.
const COMMON: [Step; 5] =
    [Step::Authenticate, Step::Authorize, Step::ValidateInput, Step::ValidateOutput, Step::Limit];
/// Those that are not.
const RECORDED: [Step; 3] = [Step::Intent, Step::Outcome, Step::Audit];

/// Every row, in the order of the table.
pub fn rows() -> Vec<Row> {
    let row = |place, kind, step| Row { place, kind, step };
    let mut rows: Vec<Row> = [Step::Echo, Step::EchoTwoCommits, Step::Driver]
        .map(|step| row(Place::Tonic, Kind::Any, step))
        .to_vec();
    rows.push(row(Place::InProcess, Kind::Any, Step::Driver));
    rows.extend([Kind::Reads, Kind::Effects].map(|kind| row(Place::InProcess, kind, Step::Audit)));
    for place in [Place::AllInOne, Place::Split] {
        rows.extend(COMMON.map(|step| row(place, Kind::Any, step)));
        for kind in [Kind::Reads, Kind::Effects] {
            rows.extend(RECORDED.map(|step| row(place, kind, step)));
        }
    }
    rows.push(row(Place::AllInOne, Kind::Effects, Step::RequestId));
    rows.push(row(Place::Redis, Kind::Reads, Step::Audit));
    rows.push(row(Place::Mcp, Kind::Any, Step::Mcp));
    rows.push(row(Place::AllInOne, Kind::Effects, Step::Mcp));
    rows
}
