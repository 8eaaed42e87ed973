//! Debits and movements over every balance that a request touches.

use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;
use keybrake_contract::refusal::CapLeft;

use super::writer::Writer;
use crate::audit::BalanceAfter;
use crate::book::{Movement, Parts, Window, WindowKind};
use crate::store::{FullKey, KeyNumber, Store, StoreError, Taken};

impl<S: Store> Writer<S> {
    /// Takes a cost from every balance of the key, or from none. A cost of nothing, or one that is not known (uncapped keys
    /// only), takes nothing, but below zero even that is refused.
    pub(super) fn debit(
        &mut self,
        key: &FullKey,
        cost: Option<Micros>,
    ) -> Result<Result<Vec<BalanceAfter>, Box<CapLeft>>, StoreError> {
        let cost = cost.unwrap_or_default();
        let mut taken: Vec<BalanceAfter> = Vec::new();
        let mut touched: Vec<i64> = Vec::new();
        for kind in WindowKind::ALL {
            let Some(cap) = kind.cap(&key.key.caps) else {
                continue;
            };
            let window = Window::at(kind, self.now);
            match self.take(key.number, window, cap, cost)? {
                Ok(None) => {}
                Ok(Some(parts)) => {
                    touched.push(window.code());
                    taken.push(after(key.number, window, parts));
                }
                Err(left) => {
                    let back = released(HoldState::Held, cost)?;
                    for code in touched {
                        self.store.move_parts(key.number, code, back)?;
                    }
                    return Ok(Err(Box::new(CapLeft {
                        limit: kind.limit().to_owned(),
                        asked: Some(cost),
                        left: Some(left),
                        resets_at: window.resets_at().map(|end| end.to_string()),
                    })));
                }
            }
        }
        Ok(Ok(taken))
    }

    /// One balance: `Err` is what is left of it.
    fn take(
        &mut self,
        key: KeyNumber,
        window: Window,
        cap: Micros,
        cost: Micros,
    ) -> Result<Result<Option<Parts>, Micros>, StoreError> {
        let code = window.code();
        if cost == Micros::ZERO {
            let balance = self.store.balance(key, code)?;
            return Ok(match balance {
                Some(parts) if parts.free < Micros::ZERO => Err(parts.free),
                _ => Ok(None),
            });
        }
        let taken = match self.store.take(key, code, cost)? {
            Taken::NoBalance => {
                self.store.put_balance(key, code, Parts::untouched(cap))?;
                self.store.take(key, code, cost)?
            }
            taken => taken,
        };
        match taken {
            Taken::Taken(parts) => Ok(Ok(Some(parts))),
            Taken::TooLittle(parts) => Ok(Err(parts.free)),
            Taken::NoBalance => Err(StoreError(
                "a balance vanished while it was made".to_owned(),
            )),
        }
    }

    /// Undoes [`Self::debit`].
    pub(super) fn give_back(
        &mut self,
        key: &FullKey,
        cost: Option<Micros>,
    ) -> Result<(), StoreError> {
        let back = released(HoldState::Held, cost.unwrap_or_default())?;
        if back.is_nothing() {
            return Ok(());
        }
        for kind in WindowKind::ALL {
            if kind.cap(&key.key.caps).is_some() {
                let code = Window::at(kind, self.now).code();
                self.store.move_parts(key.number, code, back)?;
            }
        }
        Ok(())
    }

    /// Moves the money of a hold that was reserved at `reserved_at`, in the windows of that time.
    pub(super) fn move_money(
        &mut self,
        key: KeyNumber,
        reserved_at: i64,
        movement: Movement,
    ) -> Result<Vec<BalanceAfter>, StoreError> {
        let mut changed = Vec::new();
        if movement.is_nothing() {
            return Ok(changed);
        }
        for kind in WindowKind::ALL {
            let window = Window::at(kind, reserved_at);
            if let Some(parts) = self.store.move_parts(key, window.code(), movement)? {
                changed.push(after(key, window, parts));
            }
        }
        Ok(changed)
    }

    /// The balances of a key in the present windows, with those that were not touched yet.
    pub(super) fn present_balances(
        &mut self,
        key: &FullKey,
    ) -> Result<Vec<crate::model::Balance>, StoreError> {
        let mut balances = Vec::new();
        for kind in WindowKind::ALL {
            if let Some(cap) = kind.cap(&key.key.caps) {
                let window = Window::at(kind, self.now);
                let parts = self.store.balance(key.number, window.code())?;
                balances.push(shown(window, parts.unwrap_or(Parts::untouched(cap))));
            }
        }
        Ok(balances)
    }

    /// Brings the present balances of a key in line with new caps. A cap that is set anew finds what was spent in its window
    /// before; a lower one may leave less than nothing free.
    pub(super) fn recap(&mut self, key: &FullKey) -> Result<(), StoreError> {
        for kind in WindowKind::ALL {
            let window = Window::at(kind, self.now);
            let (number, code) = (key.number, window.code());
            match (kind.cap(&key.key.caps), self.store.balance(number, code)?) {
                (None, None) => {}
                (None, Some(_)) => self.store.remove_balance(number, code)?,
                (Some(cap), Some(parts)) => {
                    let parts = parts.recapped(cap).ok_or_else(overflow)?;
                    self.store.put_balance(number, code, parts)?;
                }
                (Some(cap), None) => {
                    let parts = self.store.spent_since(number, window.begins_ms(), cap)?;
                    self.store.put_balance(number, code, parts)?;
                }
            }
        }
        Ok(())
    }
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
    StoreError("a sum of money overflows".to_owned())
}
