//! Lists: newest first, with `limit`, `starting_after`, `ending_before` and `created[…]`.

use std::sync::Arc;

use serde::Serialize;

use super::{Listed, Object};
use crate::answer::ApiError;
use crate::book::Shelf;
use crate::form::Params;

/// The parameters that every list takes.
pub const WINDOW_PARAMS: &[&str] = &["limit", "starting_after", "ending_before", "created"];

const DEFAULT_LIMIT: i64 = 10;

/// A page in Stripe's list shape.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are the vendor's")]
pub struct List {
    pub object: &'static str,
    pub data: Vec<Object>,
    pub has_more: bool,
    pub url: &'static str,
}

enum Cursor {
    Newest,
    /// Older than this one.
    After(String),
    /// Newer than this one, the nearest first.
    Before(String),
}

/// Which part of a list is asked for.
pub struct Window {
    limit: usize,
    cursor: Cursor,
    from_s: i64,
    to_s: i64,
}

impl Window {
    /// Reads the window's parameters.
    ///
    /// # Errors
    /// 400 for a limit outside 1 to 100, two cursors, or times that are not numbers.
    pub fn read(params: &Params) -> Result<Self, ApiError> {
        let limit = params.integer("limit", 1..=100)?.unwrap_or(DEFAULT_LIMIT);
        let cursor = match (
            params.owned("starting_after")?,
            params.owned("ending_before")?,
        ) {
            (None, None) => Cursor::Newest,
            (Some(id), None) => Cursor::After(id),
            (None, Some(id)) => Cursor::Before(id),
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid(
                    "You cannot parameterize both starting_after and ending_before.",
                )
                .param("ending_before"));
            }
        };
        let (from_s, to_s) = created(params)?;
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(1),
            cursor,
            from_s,
            to_s,
        })
    }

    /// The page of this shelf, of the objects that `wanted` accepts.
    ///
    /// # Errors
    /// 404 when the cursor names no object.
    pub fn page<T: Listed>(
        &self,
        shelf: &Shelf<T>,
        what: &str,
        url: &'static str,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<List, ApiError> {
        let place = |id: &str, param: &str| {
            shelf
                .place(id)
                .ok_or_else(|| ApiError::no_such(what, id, param).status(400))
        };
        let in_page =
            |row: &&Arc<T>| (self.from_s..=self.to_s).contains(&row.created()) && wanted(row);
        let one_more = self.limit.saturating_add(1);
        let rows = shelf.rows();
        let mut data: Vec<&Arc<T>> = match &self.cursor {
            Cursor::Newest => rows.iter().rev().filter(in_page).take(one_more).collect(),
            Cursor::After(id) => {
                let end = place(id, "starting_after")?;
                rows.iter()
                    .take(end)
                    .rev()
                    .filter(in_page)
                    .take(one_more)
                    .collect()
            }
            Cursor::Before(id) => {
                let start = place(id, "ending_before")?.saturating_add(1);
                rows.iter()
                    .skip(start)
                    .filter(in_page)
                    .take(one_more)
                    .collect()
            }
        };
        let has_more = data.len() > self.limit;
        data.truncate(self.limit);
        if matches!(self.cursor, Cursor::Before(_)) {
            data.reverse();
        }
        let data = data
            .into_iter()
            .map(|row| T::wrap(Arc::clone(row)))
            .collect();
        Ok(List {
            object: "list",
            data,
            has_more,
            url,
        })
    }
}

/// The inclusive range of `created`, as one number or as `created[gte|gt|lte|lt]`.
fn created(params: &Params) -> Result<(i64, i64), ApiError> {
    let read = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| ApiError::invalid(format!("Invalid timestamp: {text}")).param("created"))
    };
    let (mut from_s, mut to_s) = (i64::MIN, i64::MAX);
    let map = params.map("created")?;
    if map.is_empty() {
        if let Some(text) = params.text("created")? {
            from_s = read(text)?;
            to_s = from_s;
        }
        return Ok((from_s, to_s));
    }
    for (bound, text) in &map {
        let second = read(text)?;
        match bound.as_str() {
            "gte" => from_s = from_s.max(second),
            "gt" => from_s = from_s.max(second.saturating_add(1)),
            "lte" => to_s = to_s.min(second),
            "lt" => to_s = to_s.min(second.saturating_sub(1)),
            _ => {
                return Err(ApiError::invalid(format!(
                    "Received unknown parameter: created[{bound}]"
                ))
                .param("created"));
            }
        }
    }
    Ok((from_s, to_s))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Customer;
    use super::*;

    fn shelf() -> Shelf<Customer> {
        let mut shelf = Shelf::default();
        for n in 0..5 {
            shelf.put(Arc::new(Customer::bare(
                format!("cus_{n}"),
                100 + n,
                BTreeMap::new(),
            )));
        }
        shelf
    }

    fn page(query: &str) -> (String, bool) {
        let mut params = Params::default();
        params.read(query.as_bytes()).unwrap();
        let list = Window::read(&params)
            .unwrap()
            .page(&shelf(), "customer", "/", |_| true)
            .unwrap();
        let ids = list.data.iter().map(|object| match object {
            Object::Customer(customer) => customer.id.trim_start_matches("cus_").to_owned(),
            _ => unreachable!(),
        });
        (ids.collect(), list.has_more)
    }

    #[test]
    fn pages_are_newest_first_and_say_whether_there_is_more() {
        let table = [
            ("", "43210", false),
            ("limit=2", "43", true),
            ("limit=5", "43210", false),
            ("limit=2&starting_after=cus_3", "21", true),
            ("limit=2&starting_after=cus_2", "10", false),
            ("starting_after=cus_0", "", false),
            ("limit=2&ending_before=cus_1", "32", true),
            ("limit=3&ending_before=cus_1", "432", false),
            ("ending_before=cus_4", "", false),
            ("created[gte]=101&created[lt]=103", "21", false),
            ("created[gt]=101&created[lte]=103&limit=1", "3", true),
            ("created=102", "2", false),
        ];
        for (query, ids, more) in table {
            assert_eq!(page(query), (ids.to_owned(), more), "{query}");
        }
    }

    #[test]
    fn bad_windows_are_refused() {
        for query in [
            "limit=0",
            "limit=101",
            "limit=x",
            "starting_after=a&ending_before=b",
            "created=x",
            "created[eq]=1",
        ] {
            let mut params = Params::default();
            params.read(query.as_bytes()).unwrap();
            assert!(Window::read(&params).is_err(), "{query}");
        }
        let mut params = Params::default();
        params.read(b"starting_after=cus_9").unwrap();
        let error = Window::read(&params)
            .unwrap()
            .page(&shelf(), "customer", "/", |_| true)
            .unwrap_err();
        assert_eq!(error.param.as_deref(), Some("starting_after"));
    }
}
