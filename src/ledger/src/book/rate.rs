//! What an amount in a vendor's currency costs in US dollars.
//!
//! Dollars cost what they are. Every other currency needs a rate that the operator pinned; without one its cost is not known.

use std::collections::BTreeMap;
use std::fmt;

use keybrake_contract::money::{Currency, Micros, Minor};

/// Trillionths of a dollar in a millionth.
const PICOS_PER_MICRO: u128 = 1_000_000;
/// Trillionths of a dollar in a billionth.
const PICOS_PER_NANO: u64 = 1_000;
/// Most digits after the point of a rate. With at most three decimals in a currency nothing is lost then.
const MAX_RATE_DECIMALS: usize = 9;
/// Most digits before the point of a rate.
const MAX_RATE_WHOLE: usize = 6;

/// US dollars for one smallest unit of a currency, exact to a trillionth. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// A cent.
    pub const US_CENT: Self = Self(10_000_000_000);

    /// From trillionths of a dollar, as a store keeps it.
    #[must_use]
    pub const fn from_picos(picos: u64) -> Option<Self> {
        match picos {
            0 => None,
            picos => Some(Self(picos)),
        }
    }

    /// Trillionths of a dollar.
    #[must_use]
    pub const fn picos(self) -> u64 {
        self.0
    }

    /// What so many smallest units cost, rounded up. `None`: more than can be counted.
    #[must_use]
    pub fn cost(self, amount: u64) -> Option<Micros> {
        let picos = u128::from(amount).checked_mul(u128::from(self.0))?;
        let micros = picos.div_ceil(PICOS_PER_MICRO);
        i64::try_from(micros).ok().map(Micros::new)
    }
}

impl fmt::Display for Rate {
    /// Dollars, without zeros at the end: `0.010845`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let picos = format!("{:013}", self.0);
        let (whole, rest) = picos.split_at(picos.len().saturating_sub(12));
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() {
            return formatter.write_str(whole);
        }
        write!(formatter, "{whole}.{rest}")
    }
}

/// US dollars for one whole unit of a currency: what people quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotedRate {
    nanos: u64,
}

impl QuotedRate {
    /// Reads a plain decimal such as `1.0845`: above zero, at most six digits before and nine after the point.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let is_plain = |part: &str, most: usize| {
            !part.is_empty() && part.len() <= most && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_plain(whole, MAX_RATE_WHOLE) || !is_plain(rest, MAX_RATE_DECIMALS) {
            return None;
        }
        let nanos = format!("{whole}{rest:0<MAX_RATE_DECIMALS$}").parse().ok()?;
        (nanos > 0).then_some(Self { nanos })
    }

    /// For a currency whose whole unit is ten to the power of `decimals` smallest ones. `None`: too little to count.
    #[must_use]
    pub fn per_smallest(self, decimals: u8) -> Option<Rate> {
        let picos = self.nanos.checked_mul(PICOS_PER_NANO)?;
        let units = 10_u64.checked_pow(u32::from(decimals))?;
        Rate::from_picos(picos.checked_div(units)?)
    }
}

/// The rates in force at one vendor, by currency. Dollars are always in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rates(BTreeMap<Currency, Rate>);

impl Rates {
    /// None but the dollar's.
    pub const NONE: Self = Self(BTreeMap::new());

    /// With these besides the dollar's.
    #[must_use]
    pub fn new(rates: impl IntoIterator<Item = (Currency, Rate)>) -> Self {
        Self(rates.into_iter().collect())
    }

    /// The rate of a currency.
    #[must_use]
    pub fn of(&self, currency: Currency) -> Option<Rate> {
        if currency == Currency::USD {
            return Some(Rate::US_CENT);
        }
        self.0.get(&currency).copied()
    }

    /// An amount with its rate.
    #[must_use]
    pub fn rated(&self, minor: Minor) -> Option<Rated> {
        let rate = self.of(minor.currency)?;
        Some(Rated { minor, rate })
    }
}

/// An amount, and what its unit costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rated {
    /// In the vendor's currency.
    pub minor: Minor,
    /// Of that currency.
    pub rate: Rate,
}

impl Rated {
    /// In dollars, rounded up. `None`: more than can be counted.
    #[must_use]
    pub fn cost(self) -> Option<Micros> {
        self.rate.cost(self.minor.amount)
    }

    /// The rate, when it is an exchange rate.
    #[must_use]
    pub fn exchange(self) -> Option<Rate> {
        (self.minor.currency != Currency::USD).then_some(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_rates_are_plain_decimals() {
        for (text, nanos) in [
            ("1.0845", Some(1_084_500_000)),
            ("1", Some(1_000_000_000)),
            ("0.000061340", Some(61_340)),
            ("0.000000001", Some(1)),
            ("999999.999999999", Some(999_999_999_999_999)),
            ("0", None),
            ("0.0", None),
            ("1000000", None),
            ("0.0000000001", None),
            (".5", None),
            ("1.", None),
            ("1e3", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1,08", None),
            ("١", None),
            ("NaN", None),
            ("", None),
        ] {
            assert_eq!(
                QuotedRate::parse(text).map(|rate| rate.nanos),
                nanos,
                "{text:?}"
            );
        }
    }

    #[test]
    fn costs_are_rounded_up_to_a_millionth() {
        #[rustfmt::skip]
        let rows = [
            // rate of a whole unit, decimals, amount → micros, rate of a smallest unit
            ("1.0845", 2, 1_000, Some(10_845_000), "0.010845"),
            ("1.0845", 2, 1, Some(10_845), "0.010845"),
            ("0.0066", 0, 5_000, Some(33_000_000), "0.0066"),
            ("3.2581", 3, 1_230, Some(4_007_463), "0.0032581"),
            ("0.00006134", 2, 3, Some(2), "0.0000006134"),
            ("0.00006134", 2, 1, Some(1), "0.0000006134"),
            ("1", 2, u64::MAX, None, "0.01"),
            ("999999.999999999", 0, 9_000_000, Some(8_999_999_999_999_991_000), "999999.999999999"),
            ("999999.999999999", 0, 9_300_000, None, "999999.999999999"),
        ];
        for (quoted, decimals, amount, micros, shown) in rows {
            let rate = QuotedRate::parse(quoted)
                .and_then(|rate| rate.per_smallest(decimals))
                .unwrap();
            assert_eq!(
                rate.cost(amount),
                micros.map(Micros::new),
                "{quoted} {amount}"
            );
            assert_eq!(rate.to_string(), shown);
        }
    }

    #[test]
    fn a_dollar_needs_no_rate_and_another_currency_does() {
        let eur = Currency::parse("eur").unwrap();
        let rate = QuotedRate::parse("1.1").unwrap().per_smallest(2).unwrap();
        let none = Rates::default();
        assert_eq!(none.of(Currency::USD), Some(Rate::US_CENT));
        assert_eq!(none.of(eur), None);
        assert_eq!(Rates::new([(eur, rate)]).of(eur), Some(rate));
        assert_eq!(Rate::US_CENT.cost(999), Some(Micros::new(9_990_000)));
        assert_eq!(Rate::US_CENT.to_string(), "0.01");
    }

    #[test]
    fn what_a_store_keeps_comes_back() {
        assert_eq!(Rate::from_picos(0), None);
        let rate = Rate::from_picos(u64::MAX).unwrap();
        assert_eq!(Rate::from_picos(rate.picos()), Some(rate));
    }
}
