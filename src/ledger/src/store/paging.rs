//! Pages of lists, whichever the database: how long they are, where they go on.

use super::ListError;
use crate::model::{Entry, Page};

/// Most items of a page, whatever is asked for.
const MAX_PAGE: u32 = 1000;

/// How many items a page has at most.
pub fn page_size(asked: u32) -> usize {
    usize::try_from(asked.clamp(1, MAX_PAGE)).unwrap_or(1)
}

/// Cuts what was found (one more than wanted, if there is more) to a page.
pub fn page<F, T>(
    found: Vec<F>,
    limit: usize,
    cursor: impl Fn(&F) -> String,
    item: impl Fn(F) -> T,
) -> Page<T> {
    let has_more = found.len() > limit;
    let last = limit.checked_sub(1).and_then(|index| found.get(index));
    Page {
        next_cursor: last.filter(|_| has_more).map(cursor),
        items: found.into_iter().take(limit).map(item).collect(),
    }
}

/// Where a page of entries goes on.
#[derive(Clone, Copy)]
pub struct Cursor {
    pub rank: i64,
    pub number: i64,
}

impl Cursor {
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let (rank, number) = text.split_once('-').ok_or(ListError::InvalidCursor)?;
        let read = |text: &str| text.parse::<u32>().map(i64::from).ok();
        let number: i64 = number.parse().map_err(|_| ListError::InvalidCursor)?;
        let rank = read(rank).ok_or(ListError::InvalidCursor)?;
        Ok(Self { rank, number })
    }
}

/// An entry with its place in a list.
pub struct Found {
    pub number: i64,
    pub rank: i64,
    pub entry: Entry,
}

impl Found {
    /// The cursor of a page that ends with it.
    pub fn cursor(&self) -> String {
        format!("{}-{}", self.rank, self.number)
    }
}
