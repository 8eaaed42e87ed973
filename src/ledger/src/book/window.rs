//! Windows of time over which a cap counts.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};
use keybrake_contract::money::Micros;

use crate::clock::timestamp;
use crate::model::Caps;

/// The kinds of window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// A UTC day.
    Day,
    /// A UTC month.
    Month,
    /// The life of the subject.
    Lifetime,
}

impl WindowKind {
    /// Every kind, in the order in which caps are tried.
    pub const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Lifetime];

    /// The cap's name, as it stands in the issue call.
    #[must_use]
    pub const fn limit(self) -> &'static str {
        match self {
            Self::Day => "daily_usd_cap",
            Self::Month => "monthly_usd_cap",
            Self::Lifetime => "lifetime_usd_cap",
        }
    }

    /// The cap that these caps set for it.
    #[must_use]
    pub const fn cap(self, caps: &Caps) -> Option<Micros> {
        match self {
            Self::Day => caps.daily,
            Self::Month => caps.monthly,
            Self::Lifetime => caps.lifetime,
        }
    }
}

/// One window: fixed when a hold is reserved, and travelling with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    kind: WindowKind,
    /// First day; for a lifetime the earliest there is.
    first: Date,
}

impl Window {
    /// The window of this kind in which an instant (milliseconds since 1970) lies.
    #[must_use]
    pub fn at(kind: WindowKind, ms: i64) -> Self {
        let day = Offset::UTC.to_datetime(timestamp(ms)).date();
        let first = match kind {
            WindowKind::Day => day,
            WindowKind::Month => day.first_of_month(),
            WindowKind::Lifetime => Date::ZERO,
        };
        Self { kind, first }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(self) -> WindowKind {
        self.kind
    }

    /// A number that no other window has, for keys of balances: kind, then year, month and day in decimal.
    #[must_use]
    pub fn code(self) -> i64 {
        let day = [
            (i64::from(self.first.year()), 10_000_i64),
            (i64::from(self.first.month()), 100),
            (i64::from(self.first.day()), 1),
        ]
        .into_iter()
        .fold(0_i64, |sum, (part, weight)| {
            sum.saturating_add(part.saturating_mul(weight))
        });
        match self.kind {
            WindowKind::Lifetime => 0,
            WindowKind::Day => 1_000_000_000_i64.saturating_add(day),
            WindowKind::Month => 2_000_000_000_i64.saturating_add(day),
        }
    }

    /// The window with this [`Self::code`]; `None`: no window of these kinds has it.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        let (kind, day) = match (
            code.div_euclid(1_000_000_000),
            code.rem_euclid(1_000_000_000),
        ) {
            (0, 0) => {
                return Some(Self {
                    kind: WindowKind::Lifetime,
                    first: Date::ZERO,
                });
            }
            (1, day) => (WindowKind::Day, day),
            (2, day) => (WindowKind::Month, day),
            _ => return None,
        };
        let part = |weight: i64, most: i64| i8::try_from(day.div_euclid(weight).rem_euclid(most));
        let year = i16::try_from(day.div_euclid(10_000)).ok()?;
        let first = Date::new(year, part(100, 100).ok()?, part(1, 100).ok()?).ok()?;
        Some(Self { kind, first }).filter(|window| window.code() == code)
    }

    /// `day:2026-11-23`, `month:2026-11`, `lifetime`.
    #[must_use]
    pub fn label(self) -> String {
        let (year, month) = (self.first.year(), self.first.month());
        match self.kind {
            WindowKind::Day => format!("day:{}", self.first),
            WindowKind::Month => format!("month:{year:04}-{month:02}"),
            WindowKind::Lifetime => "lifetime".to_owned(),
        }
    }

    /// When it began, in milliseconds since 1970; for a lifetime before everything.
    #[must_use]
    pub fn begins_ms(self) -> i64 {
        match self.kind {
            WindowKind::Lifetime => i64::MIN,
            WindowKind::Day | WindowKind::Month => {
                start_of(self.first).map_or(i64::MIN, Timestamp::as_millisecond)
            }
        }
    }

    /// When it ends and the next one begins; `None` for a lifetime.
    #[must_use]
    pub fn resets_at(self) -> Option<Timestamp> {
        let next = match self.kind {
            WindowKind::Day => self.first.checked_add(1.day()),
            WindowKind::Month => self.first.checked_add(1.month()),
            WindowKind::Lifetime => return None,
        };
        next.ok().and_then(start_of)
    }
}

fn start_of(day: Date) -> Option<Timestamp> {
    day.to_zoned(TimeZone::UTC)
        .ok()
        .map(|start| start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: WindowKind, instant: &str) -> Window {
        Window::at(kind, instant.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn windows_are_utc_days_months_and_life() {
        let last = "2026-12-31T23:59:59.999Z";
        let next = "2027-01-01T00:00:00Z";
        let cases = [
            (
                WindowKind::Day,
                last,
                "day:2026-12-31",
                1_020_261_231,
                Some(next),
            ),
            (
                WindowKind::Day,
                next,
                "day:2027-01-01",
                1_020_270_101,
                Some("2027-01-02T00:00:00Z"),
            ),
            (
                WindowKind::Month,
                last,
                "month:2026-12",
                2_020_261_201,
                Some(next),
            ),
            (
                WindowKind::Month,
                next,
                "month:2027-01",
                2_020_270_101,
                Some("2027-02-01T00:00:00Z"),
            ),
            (WindowKind::Lifetime, last, "lifetime", 0, None),
        ];
        for (kind, instant, label, code, resets) in cases {
            let window = at(kind, instant);
            assert_eq!(window.label(), label);
            assert_eq!(window.code(), code);
            assert_eq!(Window::from_code(code), Some(window));
            let resets = resets.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(window.resets_at(), resets);
        }
    }

    #[test]
    fn other_numbers_are_no_windows() {
        for code in [-1, 1, 1_020_261_331, 1_020_260_230, 3_020_261_231, i64::MIN] {
            assert_eq!(Window::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn a_window_begins_where_the_one_before_ended() {
        for kind in [WindowKind::Day, WindowKind::Month] {
            let window = at(kind, "2028-02-29T12:00:00Z");
            let end = window.resets_at().unwrap().as_millisecond();
            assert_eq!(Window::at(kind, end).begins_ms(), end);
            assert_eq!(Window::at(kind, end - 1), window);
            assert_eq!(Window::at(kind, window.begins_ms()), window);
        }
    }
}
