//! Balances and statements as readers see them.

use jiff::tz::TimeZone;

use super::balances::{overflow, shown};
use crate::book::{Parts, Window, WindowKind, rolling};
use crate::clock::timestamp;
use crate::model::{Balance, Caps, Statement};
use crate::store::{Period, Reads, Spender, StoreError};

/// Which balances make up a window at this instant: those from the first code up to but without the second.
fn codes(window: Window, caps: &Caps, now: i64) -> (i64, i64) {
    let code = window.code();
    match (window.kind(), caps.rolling) {
        (WindowKind::Rolling, Some(wanted)) => (
            rolling::first_live(now, wanted.hours),
            rolling::AFTER_EVERY_MINUTE,
        ),
        _ => (code, code.saturating_add(1)),
    }
}

/// What was found of a window, as the balance of its cap. The minutes of a rolling window have no cap of their own.
fn closing(
    window: Window,
    cap: keybrake_contract::money::Micros,
    found: Option<Parts>,
) -> Option<Parts> {
    match found {
        None => Some(Parts::untouched(cap)),
        Some(parts) if window.kind() == WindowKind::Rolling => parts.recapped(cap),
        Some(parts) => Some(parts),
    }
}

/// The balances of a subject in the present windows, with those that were not touched yet.
pub(super) fn balances(
    reads: &mut (impl Reads + ?Sized),
    subject: i64,
    caps: &Caps,
    zone: &TimeZone,
    now: i64,
) -> Result<Vec<Balance>, StoreError> {
    let windows: Vec<_> = WindowKind::ALL
        .into_iter()
        .filter_map(|kind| Some((Window::at(kind, now, zone), kind.cap(caps)?)))
        .collect();
    let asked: Vec<_> = windows
        .iter()
        .map(|(window, _)| codes(*window, caps, now))
        .collect();
    let found = reads.balances(subject, &asked)?;
    windows
        .into_iter()
        .zip(found)
        .map(|((window, cap), parts)| {
            let parts = closing(window, cap, parts).ok_or_else(overflow)?;
            Ok(shown(window, parts))
        })
        .collect()
}

/// The statement of one window, or of the present window of every cap that is set.
pub(super) fn of(
    reads: &mut (impl Reads + ?Sized),
    spender: Spender,
    caps: &Caps,
    zone: &TimeZone,
    window: Option<Window>,
    now: i64,
) -> Result<Vec<Statement>, StoreError> {
    let windows: Vec<_> = match window {
        Some(window) => vec![window],
        None => WindowKind::ALL
            .into_iter()
            .map(|kind| Window::at(kind, now, zone))
            .collect(),
    };
    let windows: Vec<_> = windows
        .into_iter()
        .filter_map(|window| Some((window, window.kind().cap(caps)?)))
        .collect();
    let periods: Vec<Period> = windows
        .iter()
        .map(|(window, _)| period(*window, caps, zone, now))
        .collect();
    let found = reads.periods(spender, &periods)?;
    let all = windows.into_iter().zip(&periods).zip(found);
    // A past window may have had no cap: then no balance was kept, and there is nothing to state.
    let kept = all.filter(|(((window, _), _), (parts, _))| {
        parts.is_some() || *window == Window::at(window.kind(), now, zone)
    });
    kept.map(|(((window, cap), period), (parts, tally))| {
        let closing = closing(window, cap, parts).ok_or_else(overflow)?;
        let (begins, _) = period.times;
        Ok(Statement {
            limit: window.kind().limit(),
            window: window.label(),
            begins_at: (window.kind() != WindowKind::Lifetime).then(|| timestamp(begins)),
            ends_at: window.resets_at(zone),
            opening: Parts::untouched(closing.cap),
            tally,
            closing,
        })
    })
    .collect()
}

fn period(window: Window, caps: &Caps, zone: &TimeZone, now: i64) -> Period {
    let windows = codes(window, caps, now);
    let times = match window.kind() {
        WindowKind::Rolling => (rolling::begins_ms(windows.0), i64::MAX),
        _ => (
            window.begins_ms(zone),
            window
                .resets_at(zone)
                .map_or(i64::MAX, jiff::Timestamp::as_millisecond),
        ),
    };
    Period { windows, times }
}
