//! How often a change of the catalog is planned while others may write, before it is planned under their lock: to
//! compare definitions takes time, in which every other writer would wait, and a catalog that never rests would have
//! it planned anew for ever. Must never let a plan be carried out that was made for another catalog.

use ::store::Error;

use crate::store::Write;

/// Rounds in which others may write.
const OPEN: u32 = 3;

/// The rounds of one change.
#[derive(Debug, Default)]
pub(crate) struct Rounds(u32);

impl Rounds {
    /// Begins a round: gives the lock up, and with it what was read under it may change. After too many rounds it is
    /// given back, for the change to be planned and written under it.
    pub(crate) async fn begin(&mut self, write: Write) -> Result<Option<Write>, Error> {
        self.0 = self.0.saturating_add(1);
        if self.0 > OPEN {
            return Ok(Some(write));
        }
        write.give_up().await?;
        Ok(None)
    }
}
