//! Lists API keys, newest first, page by page; never the keys themselves.

use ::rpc::{Page, PageKey};
use ::store::Database;
use chrono::{DateTime, Utc};
use types::Caller;

use crate::{
    Error,
    store::{self, KeyFilter, KeyRow},
};

/// One page of keys and the token of the next.
pub(crate) async fn list_keys(
    database: &Database,
    pages: &PageKey,
    caller: &Caller,
    filter: KeyFilter,
    page: (i32, &str),
    now: DateTime<Utc>,
) -> Result<(Vec<KeyRow>, String), Error> {
    let page = pages.page(page.0, page.1, format!("{}|keys|{filter:?}", caller.team))?;
    let behind = behind(&page)?;
    let mut keys =
        store::key_list(database.pool()?, &caller.team, &filter, now, behind, page.size + 1).await?;
    let next =
        pages.next(&page, &mut keys, |key| format!("{} {}", key.create_time.timestamp_micros(), key.key_id));
    Ok((keys, next))
}

/// The last key of the page before.
fn behind(page: &Page) -> Result<Option<(DateTime<Utc>, String)>, Error> {
    let read = |cursor: &String| {
        let (micros, key_id) = cursor.split_once(' ')?;
        Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, key_id.to_owned()))
    };
    let wrong = || Error::invalid("page_token", "holds no position");
    page.cursor.as_ref().map(|cursor| read(cursor).ok_or_else(wrong)).transpose()
}
