//! Windows of time over which a cap counts.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use keybrake_contract::money::Micros;

use super::rolling;
use crate::clock::timestamp;
use crate::model::Caps;

/// The kinds of window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// A day in the subject's time zone.
    Day,
    /// A month in the subject's time zone.
    Month,
    /// The last so many hours; see [`super::rolling`].
    Rolling,
    /// The life of the subject.
    Lifetime,
}

impl WindowKind {
    /// Every kind, in the order in which caps are tried.
    pub const ALL: [Self; 4] = [Self::Day, Self::Month, Self::Rolling, Self::Lifetime];

    /// The cap's name, as it stands in the issue call.
    #[must_use]
    pub const fn limit(self) -> &'static str {
        match self {
            Self::Day => "daily_usd_cap",
            Self::Month => "monthly_usd_cap",
            Self::Rolling => "rolling_usd_cap",
            Self::Lifetime => "lifetime_usd_cap",
        }
    }

    /// The cap that these caps set for it.
    #[must_use]
    pub const fn cap(self, caps: &Caps) -> Option<Micros> {
        match self {
            Self::Day => caps.daily,
            Self::Month => caps.monthly,
            Self::Rolling => match caps.rolling {
                Some(rolling) => Some(rolling.cap),
                None => None,
            },
            Self::Lifetime => caps.lifetime,
        }
    }
}

/// One window: fixed when a hold is reserved, and travelling with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    kind: WindowKind,
    /// First day; for a rolling window and a lifetime the earliest there is.
    first: Date,
}

impl Window {
    /// The window of this kind in which an instant (milliseconds since 1970) lies in this time zone.
    #[must_use]
    pub fn at(kind: WindowKind, ms: i64, zone: &TimeZone) -> Self {
        let day = || zone.to_datetime(timestamp(ms)).date();
        let first = match kind {
            WindowKind::Day => day(),
            WindowKind::Month => day().first_of_month(),
            WindowKind::Rolling | WindowKind::Lifetime => Date::ZERO,
        };
        Self { kind, first }
    }

    /// Reads a [`Self::label`].
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        let (kind, first) = match label {
            "lifetime" => (WindowKind::Lifetime, Date::ZERO),
            "rolling" => (WindowKind::Rolling, Date::ZERO),
            _ => match label.split_once(':')? {
                ("day", day) => (WindowKind::Day, day.parse().ok()?),
                ("month", month) => (WindowKind::Month, format!("{month}-01").parse().ok()?),
                _ => return None,
            },
        };
        let window = Self { kind, first };
        (window.label() == label).then_some(window)
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
            WindowKind::Rolling => rolling::TOTAL,
            WindowKind::Day => 1_000_000_000_i64.saturating_add(day),
            WindowKind::Month => 2_000_000_000_i64.saturating_add(day),
        }
    }

    /// The day, month or lifetime with this [`Self::code`]; `None`: none has it. (What a rolling window holds depends on when
    /// it is asked.)
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

    /// `day:2026-11-23`, `month:2026-11`, `rolling`, `lifetime`.
    #[must_use]
    pub fn label(self) -> String {
        let (year, month) = (self.first.year(), self.first.month());
        match self.kind {
            WindowKind::Day => format!("day:{}", self.first),
            WindowKind::Month => format!("month:{year:04}-{month:02}"),
            WindowKind::Rolling => "rolling".to_owned(),
            WindowKind::Lifetime => "lifetime".to_owned(),
        }
    }

    /// When it began, in milliseconds since 1970; for a lifetime before everything. (A rolling window has no begin of
    /// its own: see [`super::rolling::first_live`].)
    #[must_use]
    pub fn begins_ms(self, zone: &TimeZone) -> i64 {
        match self.kind {
            WindowKind::Rolling | WindowKind::Lifetime => i64::MIN,
            WindowKind::Day | WindowKind::Month => {
                start_of(self.first, zone).map_or(i64::MIN, Timestamp::as_millisecond)
            }
        }
    }

    /// When it ends and the next one begins; `None` for a rolling window and a lifetime.
    #[must_use]
    pub fn resets_at(self, zone: &TimeZone) -> Option<Timestamp> {
        let next = match self.kind {
            WindowKind::Day => self.first.checked_add(1.day()),
            WindowKind::Month => self.first.checked_add(1.month()),
            WindowKind::Rolling | WindowKind::Lifetime => return None,
        };
        start_of(next.ok()?, zone)
    }
}

/// The first instant of a day. Where its midnight is skipped, that is later than midnight; where it comes twice, the first.
fn start_of(day: Date, zone: &TimeZone) -> Option<Timestamp> {
    day.to_zoned(zone.clone())
        .ok()
        .map(|start| start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(instant: &str) -> i64 {
        instant.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn at(kind: WindowKind, instant: &str) -> Window {
        Window::at(kind, ms(instant), &TimeZone::UTC)
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
            (WindowKind::Rolling, last, "rolling", 3_000_000_000, None),
            (WindowKind::Lifetime, last, "lifetime", 0, None),
        ];
        for (kind, instant, label, code, resets) in cases {
            let window = at(kind, instant);
            assert_eq!(window.label(), label);
            assert_eq!(window.code(), code);
            let is_fixed = kind != WindowKind::Rolling;
            assert_eq!(Window::from_code(code), is_fixed.then_some(window));
            assert_eq!(Window::parse(label), Some(window));
            let resets = resets.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(window.resets_at(&TimeZone::UTC), resets);
        }
    }

    #[test]
    fn other_numbers_are_no_windows() {
        for code in [-1, 1, 1_020_261_331, 1_020_260_230, 3_020_261_231, i64::MIN] {
            assert_eq!(Window::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn a_window_begins_where_the_one_before_ended_in_every_zone() {
        // Midnight skipped, midnight twice, an hour more, an hour less, a whole day left out, half hours.
        let cases = [
            ("UTC", "2028-02-29T12:00:00Z"),
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z"),
            ("America/Havana", "2026-11-01T06:00:00Z"),
            ("America/Nuuk", "2026-10-25T01:30:00Z"),
            ("Africa/Cairo", "2026-10-29T21:30:00Z"),
            ("Europe/Berlin", "2026-03-29T12:00:00Z"),
            ("Europe/Berlin", "2026-10-25T12:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:30:00Z"),
            ("Pacific/Apia", "2011-12-31T12:00:00Z"),
        ];
        for (name, instant) in cases {
            let zone = super::super::zone(name).unwrap();
            for kind in [WindowKind::Day, WindowKind::Month] {
                let window = Window::at(kind, ms(instant), &zone);
                let end = window.resets_at(&zone).unwrap().as_millisecond();
                let next = Window::at(kind, end, &zone);
                assert_ne!(next, window, "{name}");
                assert_eq!(next.begins_ms(&zone), end, "{name}");
                assert_eq!(Window::at(kind, end - 1, &zone), window, "{name}");
                assert_eq!(Window::at(kind, window.begins_ms(&zone), &zone), window);
            }
        }
    }

    #[test]
    fn a_day_is_the_day_of_its_zone() {
        let berlin = super::super::zone("Europe/Berlin").unwrap();
        let day = |instant| Window::at(WindowKind::Day, ms(instant), &berlin).label();
        assert_eq!(day("2026-11-23T22:59:59Z"), "day:2026-11-23");
        assert_eq!(day("2026-11-23T23:00:00Z"), "day:2026-11-24");
    }

    #[test]
    fn only_labels_name_a_window() {
        for wrong in [
            "",
            "day",
            "day:",
            "day:2026-1-1",
            "day:2026-11-31",
            "month:2026-13",
            "month:2026-11-01",
            "week:1",
        ] {
            assert_eq!(Window::parse(wrong), None, "{wrong}");
        }
    }
}
