//! Balances against the entries that they are the sums of.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;

use super::report::Broken;
use crate::book::{Window, WindowKind};
use crate::model::{Caps, MAX_DEPTH};
use crate::store::{BalancePiece, RequestPiece};

/// A key or a budget.
pub struct Subject {
    /// Which of the two.
    pub kind: &'static str,
    /// The key's handle, the budget's name.
    pub name: String,
    /// The budget that it draws from.
    pub budget: Option<i64>,
    /// Of its days and months.
    pub zone: TimeZone,
    /// Its caps.
    pub caps: Caps,
    /// When it was last changed.
    pub changed_at: i64,
}

/// What entries add up to, by subject and window.
#[derive(Default)]
pub struct Balances {
    subjects: HashMap<i64, Subject>,
    /// Held, settled, unknown.
    sums: HashMap<(i64, i64), [i128; 3]>,
}

impl Balances {
    /// Takes a key or a budget. A budget comes after the one that it draws from.
    pub fn subject(&mut self, number: i64, subject: Subject) {
        self.subjects.insert(number, subject);
    }

    /// Name of a subject.
    pub fn name(&self, number: i64) -> Option<&str> {
        self.subjects
            .get(&number)
            .map(|subject| subject.name.as_str())
    }

    /// Adds what an entry took to its key and to every budget from its own up to the root.
    pub fn add(&mut self, row: &RequestPiece, cost: Micros) {
        let part = match row.state.hold {
            HoldState::Held => 0,
            HoldState::Settled => 1,
            HoldState::Unknown => 2,
            HoldState::Released => return,
        };
        self.add_to(row.subject, row.at, part, cost);
        let mut next = row.budget;
        // A path is no longer than that, whatever somebody has made of the table.
        for _ in 0..MAX_DEPTH {
            let Some(number) = next else { return };
            self.add_to(number, row.at, part, cost);
            next = self
                .subjects
                .get(&number)
                .and_then(|subject| subject.budget);
        }
    }

    fn add_to(&mut self, number: i64, at: i64, part: usize, cost: Micros) {
        let Some(subject) = self.subjects.get(&number) else {
            return;
        };
        for kind in [WindowKind::Day, WindowKind::Month, WindowKind::Lifetime] {
            let window = Window::at(kind, at, &subject.zone).code();
            let sums = self.sums.entry((number, window)).or_default();
            if let Some(sum) = sums.get_mut(part) {
                *sum = sum.saturating_add(i128::from(cost.get()));
            }
        }
    }

    /// Takes a balance. One over a rolling window is not judged here.
    pub fn balance(&self, row: &BalancePiece) -> Result<(), Broken> {
        let (Some(subject), Some(window)) = (
            self.subjects.get(&row.subject),
            Window::from_code(row.window),
        ) else {
            return Ok(());
        };
        let sums = self.sums.get(&(row.subject, row.window));
        let parts = [row.parts.held, row.parts.settled, row.parts.unknown];
        let parts = parts.map(|part| i128::from(part.get()));
        let ends_at = window
            .resets_at(&subject.zone)
            .map(|end| end.as_millisecond());
        // A window that was over when the cap was changed keeps the cap of its time.
        let is_present = ends_at.is_none_or(|end| end > subject.changed_at);
        let cap = is_present.then(|| window.kind().cap(&subject.caps));
        let what = if parts != sums.copied().unwrap_or_default() {
            "what is held, settled or unknown"
        } else if cap.is_some_and(|cap| cap != Some(row.parts.cap)) {
            "its cap is not the one that was set"
        } else if !row.parts.adds_up() {
            "its parts do not add up to its cap"
        } else {
            return Ok(());
        };
        Err(Broken::Balance {
            of: format!("{} {}", subject.kind, subject.name),
            window: window.label(),
            what,
        })
    }
}
