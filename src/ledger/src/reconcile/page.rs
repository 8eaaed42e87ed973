//! One page of a vendor's events, read strictly: what does not look as the pack says is no page.

use keybrake_pack::EventRules;
use serde_json::Value;

use super::search::Stretch;

/// Longest text that is taken from an event.
const MAX_TEXT: usize = 255;

/// An event as far as it is evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// In which second since 1970 it was made.
    pub at_s: i64,
    /// Of the request that caused it.
    pub idempotency_key: Option<String>,
    /// The vendor's id of that request.
    pub request_id: Option<String>,
    /// Of which kind its object is.
    pub object_kind: Option<String>,
    /// The id of its object.
    pub object_id: Option<String>,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// In the vendor's order.
    pub events: Vec<Event>,
    /// After which event the next page begins; `None`: this was the last.
    pub next: Option<String>,
}

/// The query of the page after this event, or of the first.
#[must_use]
pub fn query(rules: &EventRules, stretch: Stretch, after: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(&rules.from, &stretch.from_s.to_string());
    query.append_pair(&rules.to, &stretch.to_s.to_string());
    query.append_pair(&rules.limit, &rules.page_size.to_string());
    if let Some(after) = after {
        query.append_pair(&rules.after, after);
    }
    query.finish()
}

/// Reads a page that was asked for this stretch, after this event.
///
/// # Errors
/// What is wrong with it.
pub fn read(
    rules: &EventRules,
    stretch: Stretch,
    after: Option<&str>,
    body: &[u8],
) -> Result<EventPage, &'static str> {
    let page: Value = serde_json::from_slice(body).map_err(|_| "a page is not JSON")?;
    let items = page
        .pointer(&rules.items)
        .and_then(Value::as_array)
        .ok_or("a page has no list of events")?;
    let more = page
        .pointer(&rules.more)
        .and_then(Value::as_bool)
        .ok_or("a page does not say whether there are more")?;
    let events = items
        .iter()
        .map(|item| event(rules, item))
        .collect::<Result<Vec<_>, _>>()?;
    if !events.iter().all(|event| stretch.holds(event.at_s)) {
        return Err("a page holds events of another time than was asked for");
    }
    let last = events.last().map(|event| event.id.clone());
    let repeats = after.is_some() && events.iter().any(|event| after == Some(&event.id));
    match (more, last) {
        (true, None) => Err("an empty page says that there are more"),
        _ if repeats => Err("a page holds the event after which it was to begin"),
        (true, last) => Ok(EventPage { events, next: last }),
        (false, _) => Ok(EventPage { events, next: None }),
    }
}

fn event(rules: &EventRules, item: &Value) -> Result<Event, &'static str> {
    let text = |pointer: &str| match item.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= MAX_TEXT => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err("an event holds something else than a text where the pack names one"),
    };
    let request_id = rules.request_id.as_deref().map_or(Ok(None), text)?;
    Ok(Event {
        id: text(&rules.id)?.ok_or("an event has no id")?,
        at_s: item
            .pointer(&rules.at)
            .and_then(Value::as_i64)
            .ok_or("an event does not say when it was made")?,
        idempotency_key: text(&rules.idempotency_key)?,
        request_id: request_id.filter(|id| is_plain(id)),
        object_kind: text(&rules.object_kind)?,
        object_id: text(&rules.object_id)?,
    })
}

/// Whether a vendor's text may stand in a header and in the audit.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\'))
}
