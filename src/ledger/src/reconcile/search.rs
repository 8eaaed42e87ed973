//! Which requests are looked for, in which stretches of the vendor's events, and what these say about each.

use std::collections::{BTreeSet, HashMap};

use keybrake_contract::ids::HoldId;
use keybrake_pack::{EvidenceRules, Pack};

use super::SKEW_MS;
use super::page::Event;
use super::report::Why;
use crate::model::{EntryOutcome, UnknownRequest};

/// Most events of one idempotency key that are kept: a request causes a handful.
const MAX_SIGHTINGS: usize = 64;

/// A request that the vendor's events may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The hold's id.
    pub id: HoldId,
    /// Operation name.
    pub operation: String,
    /// As the vendor saw it.
    pub idempotency_key: String,
    /// Which of our credentials it was made with.
    pub credential: String,
    /// When it was reserved, in milliseconds since 1970.
    pub reserved_at: i64,
    /// How often it may have been forwarded.
    pub attempts: u32,
    /// How long ago it was reserved.
    pub age_ms: i64,
}

/// What is looked for, or why this request is not.
///
/// # Errors
/// [`Why`] it stays unknown.
pub fn wanted(request: &UnknownRequest, pack: Option<&Pack>) -> Result<Wanted, Why> {
    let entry = &request.entry;
    if entry.outcome != Some(EntryOutcome::Unknown) {
        return Err(Why::InFlight);
    }
    if entry.vendor_account.is_some() {
        return Err(Why::ConnectedAccount);
    }
    let rules = pack.and_then(Pack::evidence).ok_or(Why::NoEvidence)?;
    if rules.operations.get(&entry.operation).is_none() {
        return Err(Why::OtherOperation);
    }
    let idempotency_key = entry.idempotency_key.clone().ok_or(Why::NoKey)?;
    Ok(Wanted {
        id: HoldId::try_from(entry.id.as_str()).map_err(|_| Why::Odd("its id cannot be read"))?,
        operation: entry.operation.clone(),
        idempotency_key,
        credential: entry.credential.clone(),
        reserved_at: entry.time.as_millisecond(),
        attempts: entry.attempts,
        age_ms: request.age_ms,
    })
}

/// A stretch of the vendor's events, in whole seconds, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// From this second since 1970.
    pub from_s: i64,
    /// To this one.
    pub to_s: i64,
}

impl Stretch {
    /// Where the events of a request stand that was made by `made_by` at the latest.
    #[must_use]
    pub fn of(wanted: &Wanted, made_by: i64, rules: &EvidenceRules) -> Self {
        let from = wanted.reserved_at.saturating_sub(SKEW_MS);
        let to = [rules.vendor_max_ms.cast_signed(), SKEW_MS, 999]
            .into_iter()
            .fold(made_by, i64::saturating_add);
        Self {
            from_s: from.div_euclid(1_000),
            to_s: to.div_euclid(1_000),
        }
    }

    /// Whether a second is in it.
    #[must_use]
    pub const fn holds(&self, second: i64) -> bool {
        self.from_s <= second && second <= self.to_s
    }
}

/// The fewest stretches that cover all of these: none is read twice.
#[must_use]
pub fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| stretch.from_s);
    let mut joined: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match joined.last_mut() {
            Some(last) if stretch.from_s <= last.to_s.saturating_add(1) => {
                last.to_s = last.to_s.max(stretch.to_s);
            }
            _ => joined.push(stretch),
        }
    }
    joined
}

/// The events that name the idempotency key of a request that is looked for.
#[derive(Debug, Default)]
pub struct Sightings<'a> {
    by_key: HashMap<&'a str, Vec<Event>>,
    /// Keys that more than one request was made with.
    shared: BTreeSet<&'a str>,
    /// Keys of more events than are kept.
    flooded: BTreeSet<String>,
}

impl<'a> Sightings<'a> {
    /// Nothing seen yet of these requests.
    #[must_use]
    pub fn of(wanted: impl Iterator<Item = &'a Wanted>) -> Self {
        let mut sightings = Self::default();
        for one in wanted {
            let key = one.idempotency_key.as_str();
            if sightings.by_key.insert(key, Vec::new()).is_some() {
                sightings.shared.insert(key);
            }
        }
        sightings
    }

    /// Takes an event; one of a request that nobody looks for is let go.
    pub fn take(&mut self, event: Event) {
        let Some(key) = event.idempotency_key.as_deref() else {
            return;
        };
        let Some(seen) = self.by_key.get_mut(key) else {
            return;
        };
        if seen.len() >= MAX_SIGHTINGS {
            self.flooded.insert(key.to_owned());
        } else {
            seen.push(event);
        }
    }
}

/// What the events say about a request, when all of its stretch was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing.
    Nothing,
    /// It made or changed this object.
    Object {
        /// The oldest event that says so.
        event_id: String,
        /// The object.
        object_id: String,
        /// The vendor's id of the request.
        request_id: Option<String>,
    },
    /// Something that fits no execution of it, and not its absence either.
    Odd(&'static str),
}

/// What the events say about a request. They decide only when they say one thing.
#[must_use]
pub fn sighting(
    wanted: &Wanted,
    stretch: Stretch,
    sightings: &Sightings<'_>,
    rules: &EvidenceRules,
) -> Sighting {
    let key = wanted.idempotency_key.as_str();
    if sightings.shared.contains(key) {
        return Sighting::Odd("more than one request of unknown outcome has its idempotency key");
    }
    if sightings.flooded.contains(key) {
        return Sighting::Odd("too many events name its idempotency key");
    }
    let (Some(seen), Some(operation)) = (
        sightings.by_key.get(key),
        rules.operations.get(&wanted.operation),
    ) else {
        return Sighting::Odd("it was not looked for");
    };
    if seen.is_empty() {
        return Sighting::Nothing;
    }
    if seen.iter().any(|event| !stretch.holds(event.at_s)) {
        return Sighting::Odd("an event from outside its time names its idempotency key");
    }
    let fits: Vec<&Event> = seen
        .iter()
        .filter(|event| event.object_kind.as_deref() == Some(operation.object.as_str()))
        .collect();
    let objects: BTreeSet<&str> = fits
        .iter()
        .filter_map(|event| event.object_id.as_deref())
        .collect();
    let oldest = fits.iter().min_by_key(|event| (event.at_s, &event.id));
    let mut objects = objects.into_iter();
    match (objects.next(), objects.next(), oldest) {
        (Some(object), None, Some(oldest))
            if fits.iter().all(|event| event.object_id.is_some()) =>
        {
            Sighting::Object {
                event_id: oldest.id.clone(),
                object_id: object.to_owned(),
                request_id: oldest.request_id.clone(),
            }
        }
        (Some(_), Some(_), _) => {
            Sighting::Odd("its idempotency key made more than one object at the vendor")
        }
        _ => Sighting::Odd("its idempotency key is only in events about other objects"),
    }
}
