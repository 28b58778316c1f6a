//! Finds the tools that match words best, and those that fit a filter, page by page. Whatever the words are, they find
//! something or nothing: no text is an error.

use std::collections::HashMap;

use ::rpc::PageKey;
use ::store::Database;

use crate::{
    Error,
    store::{self, Filter, Found, Narrow, Sought, ToolRow},
    words::words,
};

/// Most words of one search; more say no more.
const MAX_WORDS: usize = 32;

/// What is searched for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// Words; empty: every tool that fits the rest.
    pub text: String,
    /// Part of the name; empty: any.
    pub part: String,
    pub filter: Filter,
}

/// One page of tools, best first, each with its score, and the token of the next page.
pub(crate) async fn search(
    database: &Database,
    pages: &PageKey,
    team: &str,
    search: &Search,
    page: (i32, &str),
) -> Result<(Vec<(ToolRow, f32)>, String), Error> {
    let mut page = pages.page(page.0, page.1, format!("search|{team}|{search:?}"))?;
    let cursor = page.cursor.as_deref().map(Place::read).transpose()?;
    let (mut found, need_all) = found(database, team, search, cursor.as_ref(), page.size + 1).await?;
    let fitting = found.iter().take_while(|found| found.fits).count().max(1);
    page.size = page.size.min(i64::try_from(fitting).unwrap_or(i64::MAX));
    let place = |found: &Found| Place { need_all, score: found.score, name: found.name.clone() }.written();
    let next = pages.next(&page, &mut found, place);
    let names: Vec<String> = found.iter().map(|found| found.name.clone()).collect();
    let rows = store::tool_rows(database.pool()?, team, &names).await?;
    let mut rows: HashMap<String, ToolRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
    let scored = found.into_iter().filter_map(|found| Some((rows.remove(&found.name)?, found.score)));
    Ok((scored.collect(), next))
}

/// What is found after a place, and whether all words had to be found: where no tool has all of them, any will do.
async fn found(
    database: &Database,
    team: &str,
    search: &Search,
    after: Option<&Place>,
    limit: i64,
) -> Result<(Vec<Found>, bool), Error> {
    let pool = database.pool()?;
    let part = search.part.to_lowercase();
    let part = (!part.is_empty()).then_some(part.as_str());
    let narrow = Narrow { filter: &search.filter, part, names: None, callable: false };
    if search.text.trim().is_empty() {
        let after = after.map_or("", |place| place.name.as_str());
        return Ok((store::tool_names_page(pool, team, narrow, after, limit).await?, true));
    }
    let mut words = words(&search.text);
    words.truncate(MAX_WORDS);
    if words.is_empty() {
        return Ok((vec![], true));
    }
    let name = search.text.trim().to_lowercase();
    let sought = |need_all| Sought { words: &words, need_all, name: &name };
    let place = after.map(|place| (place.score, place.name.as_str()));
    let need_all = after.is_none_or(|place| place.need_all);
    let found = store::tool_search(pool, team, sought(need_all), narrow, place, limit).await?;
    if found.is_empty() && after.is_none() && words.len() > 1 {
        return Ok((store::tool_search(pool, team, sought(false), narrow, None, limit).await?, false));
    }
    Ok((found, need_all))
}

/// The last tool of a page. Scores are kept to the bit: those of the next page are compared with it.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    need_all: bool,
    score: f32,
    name: String,
}

impl Place {
    fn written(&self) -> String {
        format!("{} {:08x} {}", u8::from(self.need_all), self.score.to_bits(), self.name)
    }

    fn read(text: &str) -> Result<Self, Error> {
        let read = || {
            let (need_all, rest) = text.split_once(' ')?;
            let (score, name) = rest.split_once(' ')?;
            let score = f32::from_bits(u32::from_str_radix(score, 16).ok()?);
            Some(Self { need_all: need_all == "1", score, name: name.to_owned() })
        };
        read().ok_or_else(|| ::rpc::PageError::Token.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        for score in [0.0, 0.060_792_71, 1.0 / 3.0, f32::MIN_POSITIVE] {
            let place = Place { need_all: score > 0.1, score, name: "a.b".into() };
            assert_eq!(Place::read(&place.written()).unwrap(), place);
        }
        assert!(Place::read("").is_err() && Place::read("1 x y").is_err());
    }
}
