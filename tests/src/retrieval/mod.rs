//! How well the selector finds tools: data, measures, and the selector itself in this process. For `make
//! bench-retrieval` and the test that keeps its figures from falling. Must never rank anything itself.

pub mod data;
pub mod score;
mod stand;

pub use stand::{Answer, Stand};
