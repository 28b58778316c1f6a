//! Compares a team's tree with what was signed of it before: a database that was restored from an old backup, or changed
//! behind the suite's back, is found before anything is signed on top of it.

use ::store::Database;
use futures_util::future::join_all;
use trail::{Checkpoint, Hash};

use super::{Checkpoints, Located, Standing, lock};
use crate::{Error, copy::Failure, prove, store};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
enum Compared {
    /// It goes together.
    Sound,
    /// The place could not be read; says why.
    Unread(Failure),
    /// It does not go together; says how, and what to do.
    Contradicted(String),
}

impl Checkpoints {
    /// Looks whether a team's tree follows from what the database and every place that can be read have of it, and keeps
    /// what came of it.
    pub(crate) async fn examine(&self, database: &Database, team: &str) -> Result<Standing, Error> {
        let mut reason = self.compare_own(database, team).await?;
        let places = self.places().iter().map(|place| async move {
            // One that fails is not asked team by team.
            if !place.failure().is_empty() {
                return Ok(Compared::Unread(place.failure()));
            }
            self.compare(database, place, team).await
        });
        let mut is_unread = true;
        for (place, compared) in self.places().iter().zip(join_all(places).await) {
            match compared? {
                Compared::Sound => is_unread = false,
                Compared::Unread(failure) => place.set_failure(&failure),
                Compared::Contradicted(why) => reason = Some(why),
            }
        }
        let reason = reason.or_else(|| {
            let unread =
                "no second place of checkpoints can be read, and audit.checkpoints.on_failure is block";
            (is_unread && self.must_compare()).then(|| unread.to_owned())
        });
        self.conclude(database, team, reason).await
    }

    /// The same with one place, before anything is put there. `false`: nothing may be.
    pub(super) async fn may_copy(
        &self,
        database: &Database,
        place: &Located,
        team: &str,
    ) -> Result<bool, Failure> {
        let told = |error: Error| error.to_string();
        match self.compare(database, place, team).await.map_err(told)? {
            Compared::Sound => Ok(true),
            Compared::Unread(failure) => Err(failure),
            Compared::Contradicted(reason) => {
                self.conclude(database, team, Some(reason)).await.map_err(told)?;
                Ok(false)
            }
        }
    }

    async fn conclude(
        &self,
        database: &Database,
        team: &str,
        reason: Option<String>,
    ) -> Result<Standing, Error> {
        let was = self.standing(team);
        let standing = match (reason, &was) {
            // That is another matter, which its next leaf mends.
            (None, Some(Standing::Broken(_))) => return Ok(Standing::Sound),
            (None, _) => Standing::Sound,
            (Some(reason), _) => {
                if store::halt_put(database.pool()?, team, &reason).await? {
                    tracing::error!(team, reason, "nothing is signed for this team");
                }
                Standing::Contradicted
            }
        };
        if standing == Standing::Sound && was != Some(Standing::Sound) {
            store::halts_end(database.pool()?, &[team]).await?;
        }
        self.set_standing(team, standing.clone());
        Ok(standing)
    }

    /// The tree must not be smaller than a checkpoint that stands beside it.
    async fn compare_own(&self, database: &Database, team: &str) -> Result<Option<String>, Error> {
        let pool = database.pool()?;
        let kept = store::checkpoint_newest(pool, team).await?;
        let size = store::tree_get(pool, team).await?.map_or(0, |tree| tree.size);
        let broken = "restore it from a backup that is whole";
        Ok((kept > size).then(|| {
            format!("the database has a checkpoint of {kept} events and a tree of {size}; {broken}")
        }))
    }

    async fn compare(&self, database: &Database, place: &Located, team: &str) -> Result<Compared, Error> {
        if lock(&place.compared).contains(team) {
            return Ok(Compared::Sound);
        }
        let compared = match place.place.latest(team, self.config().timeout()).await {
            Ok(None) => Compared::Sound,
            Err(failure) => Compared::Unread(failure),
            Ok(Some(note)) => match self.signer().open(&note) {
                Ok(checkpoint) => self.compare_with(database, &place.name, team, &checkpoint).await?,
                Err(wrong) => Compared::Unread(format!(
                    "has a latest checkpoint of team {team} that cannot be believed: {wrong}; name its key in \
                     audit.former_verifier_keys, or move it away"
                )),
            },
        };
        if compared == Compared::Sound {
            lock(&place.compared).insert(team.to_owned());
        }
        Ok(compared)
    }

    /// The tree is read after the checkpoint, so that it cannot be the older one unless something is wrong.
    async fn compare_with(
        &self,
        database: &Database,
        place: &str,
        team: &str,
        there: &Checkpoint,
    ) -> Result<Compared, Error> {
        if there.origin != self.signer().origin(team) {
            return Ok(Compared::Contradicted(format!(
                "{place} has a checkpoint of {} in the place of this team's; give each suite a place of its own",
                there.origin
            )));
        }
        let size = store::tree_get(database.pool()?, team).await?.map_or(0, |tree| tree.size);
        let wanted = i64::try_from(there.size).unwrap_or(i64::MAX);
        let here = if wanted <= size { prove::root_at(database, team, there.size).await? } else { None };
        if here == Some(there.root) {
            return Ok(Compared::Sound);
        }
        let name = acceptance(team, there.size, &there.root);
        if self.config().accept_rollback.contains(&name) {
            tracing::warn!(
                team,
                place,
                "a rollback was accepted; what was signed before does not hold any more"
            );
            return Ok(Compared::Sound);
        }
        let found = if wanted > size {
            format!(
                "{place} has a checkpoint of {wanted} events and the database has {size}: it is an old one"
            )
        } else {
            format!(
                "{place} has another root of the first {wanted} events: the database was changed, or is another"
            )
        };
        Ok(Compared::Contradicted(format!(
            "{found}. Restore the newest backup; or, to give up what was signed before, add \"{name}\" to \
             audit.checkpoints.accept_rollback and start again"
        )))
    }
}

/// What an operator writes to give up one checkpoint.
fn acceptance(team: &str, size: u64, root: &Hash) -> String {
    format!("{team}@{size}@{}", &root.to_string()[..16])
}
