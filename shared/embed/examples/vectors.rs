//! What the fit of the static table reads (scripts/model-pack): for every line of the standard input, its tokens and
//! its vector in binary. Also a measure of speed. Must never print a text.
//!
//! usage: vectors full|static FOLDER <LINES >BINARY; a record is a u32 count, as many u32 tokens, and the f32 numbers.

use embed::{Embedder, Mode};
use std::io::{BufRead as _, BufWriter, Error, Write as _};
use std::path::Path;

/// Lines embedded together.
const BATCH: usize = 256;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, folder) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["full", folder] => (Mode::Full, folder),
        ["static", folder] => (Mode::Static, folder),
        _ => return Err(Error::other("usage: vectors full|static FOLDER <LINES >BINARY")),
    };
    let embedder = Embedder::open(Some(Path::new(folder)), mode).map_err(Error::other)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let batch: Vec<String> = lines.by_ref().take(BATCH).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            return out.flush();
        }
        let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
        for (text, vector) in texts.iter().zip(embedder.embed(&texts)) {
            let tokens = embedder.token_ids(text);
            out.write_all(&u32::try_from(tokens.len()).unwrap_or(0).to_le_bytes())?;
            tokens.iter().try_for_each(|token| out.write_all(&token.to_le_bytes()))?;
            vector.numbers().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
    }
}
