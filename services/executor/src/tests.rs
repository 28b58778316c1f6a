//! The executor against a real PostgreSQL, real HTTP and MCP servers, and fakes of the services around it.

mod clients;
mod fakes;
mod house;
mod http;
mod ledger;
mod mcp;
mod outages;
mod reaper;
mod records;
mod refusals;
mod relays;
mod replays;
mod results;
mod search;
mod secrets;
mod stops;
mod upstream;
