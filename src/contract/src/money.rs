//! Money: integers with checked arithmetic, never a float.
//!
//! Two kinds: [`Micros`] (millionths of a US dollar: caps, balances, costs) and [`Minor`] (a vendor's own integer
//! amount in the smallest unit of a [`Currency`]). Rates between currencies are not here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Micro-US-dollars: 1 USD = 1,000,000. Signed, because what is free of a cap can fall below zero.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(i64);

/// Micros in one US dollar.
const MICROS_PER_USD: i64 = 1_000_000;
/// Micros in one US cent.
const MICROS_PER_CENT: i64 = 10_000;
/// Largest amount that [`Micros::parse_usd`] takes: 9,999,999,999.99 USD.
const MAX_USD_DIGITS: usize = 10;

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From a count of micro-dollars.
    #[must_use]
    pub const fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// As a count of micro-dollars.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// From US cents. `None` on overflow.
    #[must_use]
    pub fn from_cents(cents: i64) -> Option<Self> {
        cents.checked_mul(MICROS_PER_CENT).map(Self)
    }

    /// Sum. `None` on overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Difference. `None` on overflow.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Reads an amount in US dollars from its text: digits, at most ten before the point, and optionally a point and
    /// one or two digits. No sign, no exponent, no spaces, no grouping.
    ///
    /// # Errors
    /// [`InvalidMoney`] says what was wrong.
    pub fn parse_usd(text: &str) -> Result<Self, InvalidMoney> {
        let (whole, cents) = match text.split_once('.') {
            None => (text, ""),
            Some((_, "")) => return Err(InvalidMoney::NotDecimal),
            Some((whole, cents)) => (whole, cents),
        };
        if whole.is_empty()
            || !whole
                .bytes()
                .chain(cents.bytes())
                .all(|byte| byte.is_ascii_digit())
        {
            return Err(if text.starts_with('-') {
                InvalidMoney::Negative
            } else {
                InvalidMoney::NotDecimal
            });
        }
        if cents.len() > 2 {
            return Err(InvalidMoney::TooManyDecimals);
        }
        if whole.trim_start_matches('0').len() > MAX_USD_DIGITS {
            return Err(InvalidMoney::TooLarge);
        }
        let dollars: i64 = whole.parse().map_err(|_| InvalidMoney::TooLarge)?;
        let cents: i64 = format!("{cents:0<2}")
            .parse()
            .map_err(|_| InvalidMoney::NotDecimal)?;
        dollars
            .checked_mul(MICROS_PER_USD)
            .and_then(|micros| micros.checked_add(cents.checked_mul(MICROS_PER_CENT)?))
            .map(Self)
            .ok_or(InvalidMoney::TooLarge)
    }
}

impl fmt::Display for Micros {
    /// US dollars with six decimals: `10.990000`, `-0.000001`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let unit = MICROS_PER_USD.unsigned_abs();
        let dollars = magnitude.checked_div(unit).unwrap_or_default();
        let rest = magnitude.checked_rem(unit).unwrap_or_default();
        write!(formatter, "{sign}{dollars}.{rest:06}")
    }
}

/// Why a text is not an amount of US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidMoney {
    /// Not digits with an optional point.
    NotDecimal,
    /// Below zero.
    Negative,
    /// More than two digits after the point.
    TooManyDecimals,
    /// More than ten digits before the point.
    TooLarge,
}

impl fmt::Display for InvalidMoney {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotDecimal => "not a plain decimal number such as 10.99",
            Self::Negative => "must not be negative",
            Self::TooManyDecimals => "at most two decimals are allowed",
            Self::TooLarge => "at most 9999999999.99 is allowed",
        })
    }
}

impl std::error::Error for InvalidMoney {}

/// An ISO 4217 code in lower case, as vendors of the Stripe kind write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// US dollars, the currency of every cap.
    pub const USD: Self = Self(*b"usd");

    /// Reads exactly three ASCII letters of either case.
    ///
    /// # Errors
    /// [`InvalidCurrency`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidCurrency> {
        match text.as_bytes() {
            [a, b, c] if [a, b, c].iter().all(|byte| byte.is_ascii_alphabetic()) => Ok(Self([
                a.to_ascii_lowercase(),
                b.to_ascii_lowercase(),
                c.to_ascii_lowercase(),
            ])),
            _ => Err(InvalidCurrency),
        }
    }

    /// The code, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

/// A text that is not three ASCII letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCurrency;

impl fmt::Display for InvalidCurrency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a three-letter currency code")
    }
}

impl std::error::Error for InvalidCurrency {}

/// A vendor's integer amount, in the smallest unit of its currency. Never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minor {
    /// Count of the currency's smallest unit (cents for `usd`).
    pub amount: u64,
    /// Which currency.
    pub currency: Currency,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_from_their_text() {
        let cases = [
            ("10.99", Ok(10_990_000)),
            ("0", Ok(0)),
            ("0.1", Ok(100_000)),
            ("0.01", Ok(10_000)),
            ("007", Ok(7_000_000)),
            ("9999999999.99", Ok(9_999_999_999_990_000)),
            ("10000000000", Err(InvalidMoney::TooLarge)),
            ("99999999999999999999999", Err(InvalidMoney::TooLarge)),
            ("1.999", Err(InvalidMoney::TooManyDecimals)),
            ("1.", Err(InvalidMoney::NotDecimal)),
            (".5", Err(InvalidMoney::NotDecimal)),
            ("-1", Err(InvalidMoney::Negative)),
            ("+1", Err(InvalidMoney::NotDecimal)),
            ("1e3", Err(InvalidMoney::NotDecimal)),
            ("NaN", Err(InvalidMoney::NotDecimal)),
            ("1,000", Err(InvalidMoney::NotDecimal)),
            (" 1", Err(InvalidMoney::NotDecimal)),
            ("1.0.0", Err(InvalidMoney::NotDecimal)),
            ("١", Err(InvalidMoney::NotDecimal)),
            ("", Err(InvalidMoney::NotDecimal)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Micros::parse_usd(text).map(Micros::get),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn micros_print_with_six_decimals() {
        for (micros, text) in [
            (10_990_000, "10.990000"),
            (-1, "-0.000001"),
            (0, "0.000000"),
            (i64::MIN, "-9223372036854.775808"),
        ] {
            assert_eq!(Micros::new(micros).to_string(), text);
        }
    }

    #[test]
    fn currencies_are_three_letters() {
        for text in ["us", "usdd", "u$d", "", "ußd", "12a"] {
            assert_eq!(Currency::parse(text), Err(InvalidCurrency), "{text:?}");
        }
    }
}
