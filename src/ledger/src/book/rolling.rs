//! Rolling windows of N hours.
//!
//! What is taken is counted by whole minutes, each a balance of its own, and all live minutes together in one balance that
//! the cap is decided on. A minute is live until N hours after its end, so that whatever was admitted in any span of N
//! hours is counted together: never above the cap, at most a minute longer than needed.

/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;
/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// Code of the balance of the first minute of 1970; see [`crate::book::Window::code`].
const FIRST_MINUTE: i64 = 4_000_000_000;
/// Code of the balance of all live minutes together.
pub const TOTAL: i64 = 3_000_000_000;
/// Above the code of every minute.
pub const AFTER_EVERY_MINUTE: i64 = i64::MAX;
/// Below the code of every minute that can be.
pub const BEFORE_EVERY_MINUTE: i64 = FIRST_MINUTE;

/// Code of the balance of the minute in which an instant lies (milliseconds since 1970).
#[must_use]
pub const fn minute(at_ms: i64) -> i64 {
    FIRST_MINUTE.saturating_add(at_ms.div_euclid(MINUTE_MS))
}

/// Code of the first minute that is live at `now_ms` in a window of so many hours.
#[must_use]
pub fn first_live(now_ms: i64, hours: u16) -> i64 {
    minute(now_ms.saturating_sub(i64::from(hours).saturating_mul(HOUR_MS))).max(FIRST_MINUTE)
}

/// When the minute of a code began, in milliseconds since 1970.
#[must_use]
pub const fn begins_ms(code: i64) -> i64 {
    code.saturating_sub(FIRST_MINUTE).saturating_mul(MINUTE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lies_within_the_hours_is_live_and_a_minute_more_is_not() {
        let now = 1_795_435_200_000 + 59_999;
        for hours in [1, 24, 744] {
            let span = i64::from(hours) * HOUR_MS;
            let is_live = |at: i64| minute(at) >= first_live(now, hours);
            assert!(is_live(now) && is_live(now - span), "to the millisecond");
            assert!(!is_live(now - span - MINUTE_MS));
            let first = begins_ms(first_live(now, hours));
            assert!(is_live(first) && !is_live(first - 1));
        }
    }
}
