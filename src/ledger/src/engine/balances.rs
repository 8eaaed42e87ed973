//! Debits and movements over every balance that a request touches.

use jiff::tz::TimeZone;
use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;
use keybrake_contract::refusal::{CapLeft, Refusal, RefusalCode};
use keybrake_contract::wire::Forward;

use super::decided::Asking;
use super::path::{Subject, subjects, tiers};
use super::writer::Writer;
use crate::audit::BalanceAfter;
use crate::book::{Movement, Parts, Window, WindowKind, rolling};
use crate::model::Caps;
use crate::store::{HoldRow, KeyNumber, Spender, Store, StoreError, Taken};

/// Milliseconds in a step of a rolling window.
const MINUTE_MS: i64 = 60_000;

/// What was taken from so far, to be given back should one of the rest have too little.
type Touched = Vec<(KeyNumber, i64)>;

impl<S: Store> Writer<S> {
    /// Takes a cost from every balance of the key and its budgets, or from none. A cost of nothing, or one that is not known
    /// (uncapped keys only), takes nothing, but below zero even that is refused.
    pub(super) fn debit(
        &mut self,
        asking: &Asking<'_>,
        cost: Option<Micros>,
    ) -> Result<Result<Vec<BalanceAfter>, Box<Refusal>>, StoreError> {
        let cost = cost.unwrap_or_default();
        let mut taken: Vec<BalanceAfter> = Vec::new();
        let mut touched = Touched::new();
        for subject in subjects(asking.key, asking.path) {
            for kind in WindowKind::ALL {
                let Some(cap) = kind.cap(subject.caps) else {
                    continue;
                };
                let window = Window::at(kind, self.now, subject.zone);
                match self.take(&subject, window, cap, cost)? {
                    Ok(None) => {
                        self.open_balance(subject.number, window, cap, asking.command.forward)?;
                    }
                    Ok(Some(parts)) => {
                        touched.push((subject.number, window.code()));
                        if kind == WindowKind::Rolling {
                            touched.push((subject.number, rolling::minute(self.now)));
                        }
                        taken.push(after(subject.number, window, parts));
                    }
                    Err(left) => {
                        self.take_back(&touched, cost)?;
                        return Ok(Err(Box::new(refusal(&subject, window, cost, left))));
                    }
                }
            }
        }
        Ok(Ok(taken))
    }

    /// One balance: `Err` is what is left of it.
    fn take(
        &mut self,
        subject: &Subject<'_>,
        window: Window,
        cap: Micros,
        cost: Micros,
    ) -> Result<Result<Option<Parts>, Micros>, StoreError> {
        let (number, code) = (subject.number, window.code());
        if let (WindowKind::Rolling, Some(rolling)) = (window.kind(), subject.caps.rolling) {
            self.roll(number, rolling.hours)?;
        }
        if cost == Micros::ZERO {
            let balance = self.store.balance(number, code)?;
            return Ok(match balance {
                Some(parts) if parts.free < Micros::ZERO => Err(parts.free),
                _ => Ok(None),
            });
        }
        let taken = match self.store.take(number, code, cost)? {
            Taken::NoBalance => {
                self.store
                    .put_balance(number, code, Parts::untouched(cap))?;
                self.store.take(number, code, cost)?
            }
            taken => taken,
        };
        match taken {
            Taken::Taken(parts) => {
                if window.kind() == WindowKind::Rolling {
                    self.note_minute(number, cost)?;
                }
                Ok(Ok(Some(parts)))
            }
            Taken::TooLittle(parts) => Ok(Err(parts.free)),
            Taken::NoBalance => Err(StoreError::new(
                "a balance vanished while it was made".to_owned(),
            )),
        }
    }

    /// Lets go of the minutes of a rolling window that are not live any more: what they counted is free again.
    fn roll(&mut self, subject: KeyNumber, hours: u16) -> Result<(), StoreError> {
        let first = rolling::first_live(self.now, hours);
        let gone = self
            .store
            .remove_balances(subject, rolling::BEFORE_EVERY_MINUTE, first)?;
        let back = Movement::back(gone).ok_or_else(overflow)?;
        if !back.is_nothing() {
            self.store.move_parts(subject, rolling::TOTAL, back)?;
        }
        Ok(())
    }

    /// Counts what was just taken in the present minute of a rolling window.
    fn note_minute(&mut self, subject: KeyNumber, cost: Micros) -> Result<(), StoreError> {
        let minute = rolling::minute(self.now);
        let held = Movement::between((HoldState::Released, cost), (HoldState::Held, cost))
            .ok_or_else(overflow)?;
        if self.store.move_parts(subject, minute, held)?.is_none() {
            let nothing = Parts::untouched(Micros::ZERO);
            let parts = nothing.after(held).ok_or_else(overflow)?;
            self.store.put_balance(subject, minute, parts)?;
        }
        Ok(())
    }

    /// Makes the balance that a write draws on which takes nothing yet: the vendor may still take something.
    fn open_balance(
        &mut self,
        subject: KeyNumber,
        window: Window,
        cap: Micros,
        forward: Forward,
    ) -> Result<(), StoreError> {
        if forward == Forward::Read {
            return Ok(());
        }
        let minute = (window.kind() == WindowKind::Rolling)
            .then(|| (rolling::minute(self.now), Micros::ZERO));
        for (code, cap) in std::iter::once((window.code(), cap)).chain(minute) {
            if self.store.balance(subject, code)?.is_none() {
                self.store
                    .put_balance(subject, code, Parts::untouched(cap))?;
            }
        }
        Ok(())
    }

    fn take_back(&mut self, touched: &Touched, cost: Micros) -> Result<(), StoreError> {
        let back = released(HoldState::Held, cost)?;
        for (subject, code) in touched {
            self.store.move_parts(*subject, *code, back)?;
        }
        Ok(())
    }

    /// Undoes [`Self::debit`].
    pub(super) fn give_back(
        &mut self,
        asking: &Asking<'_>,
        cost: Option<Micros>,
    ) -> Result<(), StoreError> {
        let cost = cost.unwrap_or_default();
        if cost == Micros::ZERO {
            return Ok(());
        }
        let mut touched = Touched::new();
        for subject in subjects(asking.key, asking.path) {
            for kind in WindowKind::ALL {
                if kind.cap(subject.caps).is_some() {
                    let code = Window::at(kind, self.now, subject.zone).code();
                    touched.push((subject.number, code));
                }
            }
            if subject.caps.rolling.is_some() {
                touched.push((subject.number, rolling::minute(self.now)));
            }
        }
        self.take_back(&touched, cost)
    }

    /// Moves the money of a hold, in the windows of the time it was reserved at, of its key and of the budgets it draws from.
    pub(super) fn move_money(
        &mut self,
        row: &HoldRow,
        movement: Movement,
    ) -> Result<Vec<BalanceAfter>, StoreError> {
        let mut changed = Vec::new();
        if movement.is_nothing() {
            return Ok(changed);
        }
        self.move_of(row.key, &TimeZone::UTC, row.at, movement, &mut changed)?;
        let path = self.path(row.budget)?;
        for tier in tiers(path.as_deref()) {
            self.move_of(tier.number, &tier.zone, row.at, movement, &mut changed)?;
        }
        Ok(changed)
    }

    fn move_of(
        &mut self,
        subject: KeyNumber,
        zone: &TimeZone,
        reserved_at: i64,
        movement: Movement,
        changed: &mut Vec<BalanceAfter>,
    ) -> Result<(), StoreError> {
        for kind in WindowKind::ALL {
            let window = Window::at(kind, reserved_at, zone);
            // A minute that is live no more is not counted, and nothing that becomes of its holds is.
            if kind == WindowKind::Rolling
                && (self.store.balance(subject, window.code())?.is_none()
                    || self
                        .store
                        .move_parts(subject, rolling::minute(reserved_at), movement)?
                        .is_none())
            {
                continue;
            }
            if let Some(parts) = self.store.move_parts(subject, window.code(), movement)? {
                changed.push(after(subject, window, parts));
            }
        }
        Ok(())
    }

    /// The balances of a subject in the present windows, with those that were not touched yet.
    pub(super) fn present_balances(
        &mut self,
        subject: &Subject<'_>,
    ) -> Result<Vec<crate::model::Balance>, StoreError> {
        let mut balances = Vec::new();
        if let Some(rolling) = subject.caps.rolling {
            self.roll(subject.number, rolling.hours)?;
        }
        for kind in WindowKind::ALL {
            if let Some(cap) = kind.cap(subject.caps) {
                let window = Window::at(kind, self.now, subject.zone);
                let parts = self.store.balance(subject.number, window.code())?;
                balances.push(shown(window, parts.unwrap_or(Parts::untouched(cap))));
            }
        }
        Ok(balances)
    }

    /// Brings the present balances of a subject in line with new caps. A cap that is set anew finds what was spent in its
    /// window before; a lower one may leave less than nothing free.
    pub(super) fn recap(
        &mut self,
        subject: &Subject<'_>,
        spender: Spender,
        before: &Caps,
    ) -> Result<(), StoreError> {
        for kind in WindowKind::ALL {
            let window = Window::at(kind, self.now, subject.zone);
            let (number, code) = (subject.number, window.code());
            let hours = |caps: &Caps| caps.rolling.map(|rolling| rolling.hours);
            if kind == WindowKind::Rolling && hours(before) != hours(subject.caps) {
                self.remake_rolling(subject, spender)?;
                continue;
            }
            match (kind.cap(subject.caps), self.store.balance(number, code)?) {
                (None, None) => {}
                (None, Some(_)) => self.store.remove_balance(number, code)?,
                (Some(cap), Some(parts)) => {
                    let parts = parts.recapped(cap).ok_or_else(overflow)?;
                    self.store.put_balance(number, code, parts)?;
                }
                // Nothing was reserved since the hours were set.
                (Some(_), None) if kind == WindowKind::Rolling => {}
                (Some(cap), None) => {
                    let since = window.begins_ms(subject.zone);
                    let parts = self.store.spent_since(spender, since, cap)?;
                    self.store.put_balance(number, code, parts)?;
                }
            }
        }
        Ok(())
    }

    /// Counts a rolling window from the requests anew, or forgets it: its hours were changed.
    fn remake_rolling(
        &mut self,
        subject: &Subject<'_>,
        spender: Spender,
    ) -> Result<(), StoreError> {
        let number = subject.number;
        let (from, before) = (rolling::BEFORE_EVERY_MINUTE, rolling::AFTER_EVERY_MINUTE);
        self.store.remove_balances(number, from, before)?;
        self.store.remove_balance(number, rolling::TOTAL)?;
        let Some(wanted) = subject.caps.rolling else {
            return Ok(());
        };
        let since = rolling::begins_ms(rolling::first_live(self.now, wanted.hours));
        let mut sum = Parts::untouched(Micros::ZERO);
        for (step, parts) in self.store.spent_in_steps(spender, since, MINUTE_MS)? {
            let minute = rolling::minute(step.saturating_mul(MINUTE_MS));
            self.store.put_balance(number, minute, parts)?;
            sum = sum.joined(parts).ok_or_else(overflow)?;
        }
        let total = sum.recapped(wanted.cap).ok_or_else(overflow)?;
        self.store.put_balance(number, rolling::TOTAL, total)
    }
}

fn refusal(subject: &Subject<'_>, window: Window, cost: Micros, left: Micros) -> Refusal {
    Refusal {
        cap: Some(CapLeft {
            limit: window.kind().limit().to_owned(),
            asked: Some(cost),
            left: Some(left),
            resets_at: window.resets_at(subject.zone).map(|end| end.to_string()),
        }),
        ..Refusal::plain(RefusalCode::SpendCapExceeded)
    }
    .by_budget(subject.budget)
}

/// A balance for the API.
pub(super) fn shown(window: Window, parts: Parts) -> crate::model::Balance {
    crate::model::Balance {
        limit: window.kind().limit(),
        window: window.label(),
        cap: parts.cap,
        free: parts.free,
        held: parts.held,
        settled: parts.settled,
        unknown: parts.unknown,
    }
}

fn after(subject: KeyNumber, window: Window, parts: Parts) -> BalanceAfter {
    BalanceAfter {
        free: parts.free,
        held: parts.held,
        settled: parts.settled,
        subject,
        unknown: parts.unknown,
        window: window.label(),
    }
}

fn released(state: HoldState, cost: Micros) -> Result<Movement, StoreError> {
    Movement::between((state, cost), (HoldState::Released, cost)).ok_or_else(overflow)
}

pub(super) fn overflow() -> StoreError {
    StoreError::new("a sum of money overflows".to_owned())
}
