//! The four parts of a cap and the movements between them.

use keybrake_contract::lifecycle::HoldState;
use keybrake_contract::money::Micros;

/// One balance. `free + held + settled + unknown = cap`, always; `free` may be below zero after an overrun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The cap.
    pub cap: Micros,
    /// May still be spent.
    pub free: Micros,
    /// Set aside for requests on their way.
    pub held: Micros,
    /// Spent.
    pub settled: Micros,
    /// Set aside, and perhaps spent.
    pub unknown: Micros,
}

impl Parts {
    /// A cap of which nothing was taken yet.
    #[must_use]
    pub const fn untouched(cap: Micros) -> Self {
        Self {
            cap,
            free: cap,
            held: Micros::ZERO,
            settled: Micros::ZERO,
            unknown: Micros::ZERO,
        }
    }

    /// A cap of which this much is already held, settled and unknown. `None` on overflow.
    #[must_use]
    pub fn with_spent(cap: Micros, held: Micros, settled: Micros, unknown: Micros) -> Option<Self> {
        let free = cap
            .checked_sub(held)?
            .checked_sub(settled)?
            .checked_sub(unknown)?;
        Some(Self {
            cap,
            free,
            held,
            settled,
            unknown,
        })
    }

    /// The same spending under another cap: only `free` changes. `None` on overflow.
    #[must_use]
    pub fn recapped(self, cap: Micros) -> Option<Self> {
        Self::with_spent(cap, self.held, self.settled, self.unknown)
    }

    /// Both together, as one balance. `None` on overflow.
    #[must_use]
    pub fn joined(self, other: Self) -> Option<Self> {
        Some(Self {
            cap: self.cap.checked_add(other.cap)?,
            free: self.free.checked_add(other.free)?,
            held: self.held.checked_add(other.held)?,
            settled: self.settled.checked_add(other.settled)?,
            unknown: self.unknown.checked_add(other.unknown)?,
        })
    }

    /// After this movement. `None` on overflow.
    #[must_use]
    pub fn after(self, movement: Movement) -> Option<Self> {
        Some(Self {
            cap: self.cap,
            free: self.free.checked_add(movement.free)?,
            held: self.held.checked_add(movement.held)?,
            settled: self.settled.checked_add(movement.settled)?,
            unknown: self.unknown.checked_add(movement.unknown)?,
        })
    }

    /// Whether the four parts add up to the cap.
    #[must_use]
    pub fn adds_up(self) -> bool {
        Self::with_spent(self.cap, self.held, self.settled, self.unknown) == Some(self)
    }
}

/// What a change of a hold does to each balance it touches. The four add up to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Movement {
    /// Change of `free`.
    pub free: Micros,
    /// Change of `held`.
    pub held: Micros,
    /// Change of `settled`.
    pub settled: Micros,
    /// Change of `unknown`.
    pub unknown: Micros,
}

impl Movement {
    /// From a hold of this state and cost to that one. `None` on overflow.
    #[must_use]
    pub fn between(before: (HoldState, Micros), after: (HoldState, Micros)) -> Option<Self> {
        let (out, back) = (Self::of(before.0, before.1)?, Self::of(after.0, after.1)?);
        Some(Self {
            free: back.free.checked_sub(out.free)?,
            held: back.held.checked_sub(out.held)?,
            settled: back.settled.checked_sub(out.settled)?,
            unknown: back.unknown.checked_sub(out.unknown)?,
        })
    }

    /// That takes everything out of these parts again: all that is held, settled and unknown becomes free. `None` on
    /// overflow.
    #[must_use]
    pub fn back(parts: Parts) -> Option<Self> {
        let nothing = |amount: Micros| Micros::ZERO.checked_sub(amount);
        let movement = Self {
            free: parts
                .held
                .checked_add(parts.settled)?
                .checked_add(parts.unknown)?,
            held: nothing(parts.held)?,
            settled: nothing(parts.settled)?,
            unknown: nothing(parts.unknown)?,
        };
        Some(movement)
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// What a hold of this state and cost does to an untouched balance.
    fn of(state: HoldState, cost: Micros) -> Option<Self> {
        let free = Micros::ZERO.checked_sub(cost)?;
        let nothing = Self::default();
        Some(match state {
            HoldState::Released => nothing,
            HoldState::Held => Self {
                free,
                held: cost,
                ..nothing
            },
            HoldState::Settled => Self {
                free,
                settled: cost,
                ..nothing
            },
            HoldState::Unknown => Self {
                free,
                unknown: cost,
                ..nothing
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [HoldState; 4] = [
        HoldState::Held,
        HoldState::Settled,
        HoldState::Released,
        HoldState::Unknown,
    ];

    #[test]
    fn every_movement_adds_up_to_nothing_and_back_again_is_no_change() {
        for before in STATES {
            for after in STATES {
                for (a, b) in [(0, 0), (5, 5), (5, 7), (7, 5)] {
                    let (a, b) = (Micros::new(a), Micros::new(b));
                    let there = Movement::between((before, a), (after, b)).unwrap();
                    let sum = there.free.get()
                        + there.held.get()
                        + there.settled.get()
                        + there.unknown.get();
                    assert_eq!(sum, 0);
                    let back = Movement::between((after, b), (before, a)).unwrap();
                    let start = Parts::untouched(Micros::new(10));
                    let end = start.after(there).unwrap().after(back).unwrap();
                    assert_eq!(end, start);
                }
            }
        }
    }

    #[test]
    fn another_cap_changes_only_what_is_free() {
        let spent = Parts::with_spent(
            Micros::new(100),
            Micros::new(10),
            Micros::new(20),
            Micros::new(30),
        )
        .unwrap();
        assert_eq!(spent.free, Micros::new(40));
        let lower = spent.recapped(Micros::new(50)).unwrap();
        assert_eq!(
            lower.free,
            Micros::new(-10),
            "below zero: nothing is admitted"
        );
        assert_eq!(
            (lower.held, lower.settled, lower.unknown),
            (spent.held, spent.settled, spent.unknown)
        );
        assert!(lower.adds_up());
    }

    #[test]
    fn overflow_is_none_and_never_wraps() {
        let most = Micros::new(i64::MAX);
        assert_eq!(
            Movement::between(
                (HoldState::Held, Micros::new(i64::MIN)),
                (HoldState::Held, most)
            ),
            None
        );
        let full = Parts::untouched(most);
        let more = Movement {
            free: Micros::new(1),
            ..Movement::default()
        };
        assert_eq!(full.after(more), None);
    }
}
