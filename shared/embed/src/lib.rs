//! Texts to vectors on the processor at hand: the sentence model all-MiniLM-L6-v2 in int8 (`Mode::Full`), or a table
//! of token vectors fitted to it (`Mode::Static`), both from the files of one model pack.
//! Must never reach out of the machine, log a text, or panic on a damaged file: that is a `Fault`.

#![allow(clippy::inline_always, reason = "code is compiled for a processor by being inlined into what is")]

mod bert;
mod fault;
mod pack;
mod rows;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod unicode;
mod vector;
mod wordpiece;

use std::path::Path;

pub use fault::Fault;
pub use rows::Rows;
pub use vector::Vector;

use bert::Bert;
use pack::Pack;
use table::Table;
use wordpiece::WordPiece;

/// Tokens of a text that count, the two that enclose it included: what the model was trained with. More are cut off.
pub const MAX_TOKENS: usize = 256;

/// How texts become vectors. Without an `Embedder` there is lexical search alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The whole model: milliseconds a text.
    Full,
    /// The mean of token vectors: microseconds a text, without regard to the order of its words.
    Static,
}

/// Makes vectors of texts. Cheap to share (`Arc`); holds no lock and no thread.
#[derive(Debug)]
pub struct Embedder {
    model_id: String,
    tokens: WordPiece,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Full(Box<Bert>),
    Static(Table),
}

impl Embedder {
    /// Opens the model pack in a folder, or the one that comes with the program: `models/` or
    /// `../share/toolcrib/models/` beside the binary, then the checkout's `models/`. Reads only the files the mode
    /// needs, and checks each against the manifest first, so that a damaged model leaves the static mode usable.
    /// Takes tens of milliseconds.
    ///
    /// # Errors
    /// A file that is missing, unreadable, damaged or of another model, with what to do about it.
    pub fn open(folder: Option<&Path>, wanted: Mode) -> Result<Self, Fault> {
        let pack = Pack::find(folder)?;
        let vocabulary = pack.read(pack::VOCABULARY)?;
        let tokens = WordPiece::new(&vocabulary).map_err(|what| pack.damaged(pack::VOCABULARY, what))?;
        let (file, tag) = match wanted {
            Mode::Full => (pack::MODEL, "full"),
            Mode::Static => (pack::TABLE, "static"),
        };
        let bytes = pack.read(file)?;
        let engine = match wanted {
            Mode::Full => Bert::new(&bytes, tokens.len()).map(|bert| Engine::Full(Box::new(bert))),
            Mode::Static => Table::new(&bytes, tokens.len()).map(Engine::Static),
        }
        .map_err(|what| pack.damaged(file, what))?;
        let model_id = format!("{}/{tag}/{}", pack.name(), pack.digest(&[pack::VOCABULARY, file]));
        Ok(Self { model_id, tokens, engine })
    }

    /// Which of the two this is.
    pub fn mode(&self) -> Mode {
        match self.engine {
            Engine::Full(_) => Mode::Full,
            Engine::Static(_) => Mode::Static,
        }
    }

    /// What vectors made by this can be compared with: name, mode, and a prefix of the SHA-256 over the files and
    /// the way they are used. Vectors kept under another id must be made anew.
    pub fn model_id(&self) -> &str {
        &self.model_id
    }

    /// Length of the vectors.
    pub fn dimension(&self) -> usize {
        match &self.engine {
            Engine::Full(_) => bert::WIDTH,
            Engine::Static(table) => table.dimension(),
        }
    }

    /// One vector a text, in their order; the same text gets the same vector whatever it is embedded with, on every
    /// processor. Several short texts at once cost less than one by one, since the weights are read once for all.
    /// Blocks on one core: not for an async thread. A text without a word in it gets the vector without direction.
    pub fn embed(&self, texts: &[&str]) -> Vec<Vector> {
        let ids: Vec<Vec<u32>> = texts.iter().map(|text| self.tokens.encode(text, MAX_TOKENS - 2)).collect();
        match &self.engine {
            Engine::Full(bert) => {
                let enclosed: Vec<Vec<u32>> = ids.iter().map(|ids| self.tokens.enclose(ids)).collect();
                bert.embed(&enclosed)
            }
            Engine::Static(table) => ids.iter().map(|ids| table.embed(ids)).collect(),
        }
    }

    /// The tokens of a text as the static table is fitted to them: without the two that enclose it.
    pub fn token_ids(&self, text: &str) -> Vec<u32> {
        self.tokens.encode(text, MAX_TOKENS - 2)
    }
}
