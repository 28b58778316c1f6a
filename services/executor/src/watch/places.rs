//! How many watch at once: each asks the database several times a second. Must never count a watch that has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::Error;

/// The watches of this process, by team. Clones share them.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watches(Arc<Mutex<HashMap<String, usize>>>);

/// The place of one watch, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    watches: Watches,
    team: String,
}

impl Watches {
    /// A place for one more watch of a team, among so many of all teams and so many of its own.
    pub(super) fn take(&self, team: &str, most: usize, most_of_team: usize) -> Result<Place, Error> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (open.values().sum::<usize>(), open.get(team).copied().unwrap_or(0));
        if own >= most_of_team {
            return Err(Error::TooManyWatches { whose: "this team", most: most_of_team });
        }
        if all >= most {
            return Err(Error::TooManyWatches { whose: "this process", most });
        }
        *open.entry(team.to_owned()).or_default() += 1;
        Ok(Place { watches: self.clone(), team: team.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.team) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.team);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_team_and_in_all_and_given_back() {
        let watches = Watches::default();
        let take = |team| watches.take(team, 3, 2);
        let whose = |team| match take(team) {
            Err(Error::TooManyWatches { whose, .. }) => whose,
            other => panic!("{other:?}"),
        };
        let (first, _second) = (take("a").unwrap(), take("a").unwrap());
        assert_eq!(whose("a"), "this team");
        let third = take("b").unwrap();
        assert_eq!(whose("c"), "this process");
        drop(first);
        drop(third);
        let _places = (take("a").unwrap(), take("c").unwrap());
        assert_eq!(whose("b"), "this process");
    }
}
