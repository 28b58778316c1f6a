//! What one service says when it did not take what another sent it. Knows no transport, and no table that it waits in.

/// The receiver did not take what was sent; it is kept and sent again.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryFailed {
    /// What it said.
    pub message: String,
    /// Whether it refused this and not anything: it is sent again in smaller parts, so that one part which
    /// it never takes does not hold up the others.
    pub refused: bool,
}
