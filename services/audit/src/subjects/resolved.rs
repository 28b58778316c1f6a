//! The subjects of one request, by whose keys its events are sealed. Pure: whether a key is still there, the insert asks.

use std::collections::HashMap;

use uuid::Uuid;

use super::Subject;
use crate::{Error, payload::Draft, store::RecordRow};

/// The subjects of a request.
#[derive(Default)]
pub(crate) struct Resolved {
    pub(super) teams: HashMap<String, Subject>,
    pub(super) users: HashMap<(String, String), Subject>,
}

/// A record, and the key that it is sealed under.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub record: RecordRow,
    /// Whose key it is, where it is sealed at all.
    pub under: Option<Uuid>,
}

impl Resolved {
    /// Seals an event under the key of its user, or of its team where there is none.
    pub(crate) fn seal(&self, draft: &Draft) -> Result<Sealed, Error> {
        let lost = || Error::Sealing(draft.record.id);
        let (team, user) = (&draft.record.team_id, &draft.payload.user);
        if let Some(subject) = draft.record.subject_id.filter(|_| user.is_empty()) {
            // It tells of an erased subject, by header alone.
            return Ok(Sealed { record: draft.erased(Some(subject)), under: None });
        }
        if user.is_empty() {
            let live = self.teams.get(team).ok_or_else(lost)?.opened()?;
            return Ok(Sealed { record: draft.sealed(None, &live.key)?, under: Some(live.id) });
        }
        let Some(subject) = self.users.get(&(team.clone(), user.clone())) else {
            // Without its team's key nothing is known of a user.
            self.teams.get(team).ok_or_else(lost)?.opened()?;
            return Err(lost());
        };
        match (&subject.live, subject.erased) {
            (_, Some((_, id))) if subject.is_late(draft.heard()) => {
                Ok(Sealed { record: draft.erased(id), under: None })
            }
            (Some(live), _) => {
                Ok(Sealed { record: draft.sealed(Some(live.id), &live.key)?, under: Some(live.id) })
            }
            (None, _) => Err(subject.fault.clone().map_or_else(lost, Error::from)),
        }
    }
}
