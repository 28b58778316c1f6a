//! The first line: who signed what, and the hashes by which everything else is proven; and known checkpoints.

use super::{Body, Verifier};
use crate::{
    Checkpoint,
    export::{
        FORMAT, Kind, Manifest,
        ended::Explained,
        erased::Erased,
        lines::{First, decoded},
        path::Path,
        suspects::Suspects,
    },
    note::VerifierKey,
};

impl Verifier {
    /// Takes the first line.
    pub(super) fn first(&mut self, first: &First) {
        match self.opened(first) {
            Ok((checkpoint, manifest, path)) => {
                let mut body = Body {
                    path,
                    begin: manifest.begin,
                    end: manifest.end,
                    size: manifest.size,
                    headers_only: manifest.headers_only,
                    expected: manifest.begin,
                    suspects: Suspects::default(),
                    told: manifest.begin,
                    checkpoints: Vec::new(),
                    explained: Explained::default(),
                    erased: Erased::default(),
                    ahead: None,
                };
                self.report.manifest = Some(manifest);
                self.know(&mut body, &checkpoint);
                self.compare(&mut body);
                self.body = Some(body);
            }
            Err(kind) => self.tell(None, "", kind),
        }
    }

    fn opened(&mut self, first: &First) -> Result<(Checkpoint, Manifest, Path), Kind> {
        if first.format != FORMAT {
            return Err(Kind::Malformed(format!(
                "its format is {:?}, and this program reads {FORMAT}",
                first.format
            )));
        }
        let named = VerifierKey::parse(&first.verifier_key)
            .map_err(|error| Kind::Malformed(format!("its verifier_key {error}")))?;
        if self.keys.is_empty() {
            self.keys.push(named.clone());
        }
        let unsigned = |error: &dyn std::fmt::Display| Kind::Unsigned(error.to_string());
        let checkpoint = Checkpoint::open(&first.checkpoint, &self.keys).map_err(|error| unsigned(&error))?;
        let manifest = Manifest::open(&first.manifest, &self.keys).map_err(|error| unsigned(&error))?;
        // A key is believed that signed both, so the file names it, or says something else than what was signed.
        let signed = |note: &str| crate::note::open(note, std::slice::from_ref(&named)).is_ok();
        if !signed(&first.checkpoint) || !signed(&first.manifest) {
            return Err(Kind::Unsigned(format!("the file says that {} signed it", named.id())));
        }
        self.report.signed_by = named.id();
        if !manifest.fits(&checkpoint.origin, checkpoint.size, &checkpoint.root) {
            return Err(Kind::OtherTree);
        }
        let edge = first.frontier.iter().map(|hashes| decoded(hashes)).collect::<Option<Vec<_>>>();
        let path = edge.and_then(|edge| Path::new(checkpoint.size, &checkpoint.root, edge));
        Ok((checkpoint, manifest, path.ok_or(Kind::Edge)?))
    }

    /// Opens the known checkpoints, and compares what needs no record.
    fn know(&mut self, body: &mut Body, ours: &Checkpoint) {
        for known in std::mem::take(&mut self.known) {
            let checkpoint = known.name.clone();
            let theirs = match Checkpoint::open(&known.note, &self.keys) {
                Ok(theirs) => theirs,
                Err(error) => {
                    self.tell(None, "", Kind::BadCheckpoint { checkpoint, reason: error.to_string() });
                    continue;
                }
            };
            if theirs.origin != ours.origin {
                let reason = format!("it is of the trail {}, not of {}", theirs.origin, ours.origin);
                self.tell(None, "", Kind::BadCheckpoint { checkpoint, reason });
            } else if theirs.size > ours.size {
                self.tell(None, "", Kind::RolledBack { checkpoint, size: theirs.size });
            } else {
                body.checkpoints.push((known.name, theirs));
            }
        }
    }

    /// Compares known checkpoints with the tree as it was at their sizes, where the tiles for that are known now.
    pub(super) fn compare(&mut self, body: &mut Body) {
        let mut waiting = Vec::new();
        for (name, checkpoint) in std::mem::take(&mut body.checkpoints) {
            let root = if checkpoint.size == 0 {
                Some(crate::empty_root())
            } else {
                body.path.root_at(checkpoint.size)
            };
            match root {
                None => waiting.push((name, checkpoint)),
                Some(root) if root == checkpoint.root => self.report.checkpoints.push(name),
                Some(_) => self.tell(None, "", Kind::Forked { checkpoint: name }),
            }
        }
        body.checkpoints = waiting;
    }
}
