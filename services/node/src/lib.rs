//! The node: one process of toolcrib, from its settings to its end. `wire.rs` puts the services together;
//! `cli/` is the command line. No business rule belongs here.

pub mod cli;
pub mod config;
pub mod data;
mod health;
mod ports;
mod redis;
mod roles;
mod secured;
pub mod serve;
pub mod up;
pub mod wire;

/// Calls allocate much and briefly, on every thread: the system's allocator costs them a fifth more of the processor.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
