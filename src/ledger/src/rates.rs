//! The operator's table of exchange rates: a file that is read once, at start.
//!
//! Here: its form, and the rates in force at each vendor. Not here: what an amount costs by a rate (`book`).

use std::collections::BTreeMap;
use std::path::Path;

use jiff::civil::Date;
use keybrake_contract::money::Currency;
use keybrake_pack::Pack;
use serde::Deserialize;

use crate::book::{QuotedRate, Rates};

/// Largest file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Rates as people quote them: US dollars for one whole unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateTable {
    /// Which day they are of.
    pub as_of: Date,
    quoted: BTreeMap<Currency, QuotedRate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableDto {
    as_of: String,
    rates: Vec<RateDto>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateDto {
    currency: String,
    usd: String,
}

/// A table that cannot be used. One clear line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}")]
pub struct InvalidRates {
    path: String,
    cause: String,
}

impl RateTable {
    /// Reads a file.
    ///
    /// # Errors
    /// [`InvalidRates`] says what is wrong and what is allowed.
    pub fn load(path: &Path) -> Result<Self, InvalidRates> {
        let invalid = |cause: String| InvalidRates {
            path: path.display().to_string(),
            cause,
        };
        let size = std::fs::metadata(path)
            .map_err(|error| invalid(error.to_string()))?
            .len();
        if size > MAX_BYTES {
            return Err(invalid(format!("larger than {MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        Self::parse(&text).map_err(invalid)
    }

    /// Reads a table from its JSON text.
    ///
    /// # Errors
    /// What is wrong, where, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let TableDto { as_of, rates } =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let as_of = as_of
            .parse()
            .map_err(|_| "as_of: must be a day such as 2026-11-01".to_owned())?;
        let mut quoted = BTreeMap::new();
        for (position, RateDto { currency, usd }) in rates.into_iter().enumerate() {
            let wrong = |field: &str, why: &str| Err(format!("rates[{position}].{field}: {why}"));
            let Ok(currency) = Currency::parse(&currency) else {
                return wrong("currency", "must be three letters such as eur");
            };
            if currency == Currency::USD {
                return wrong("currency", "is the dollar, which needs no rate");
            }
            let Some(rate) = QuotedRate::parse(&usd) else {
                return wrong(
                    "usd",
                    "must be the US dollars for one whole unit as a text such as \"1.0845\": above 0, at most 6 digits before and 9 after the point",
                );
            };
            if quoted.insert(currency, rate).is_some() {
                return wrong("currency", "is there twice");
            }
        }
        Ok(Self { as_of, quoted })
    }

    /// The rates in force at a vendor: how many decimals a currency has is the vendor's to say.
    #[must_use]
    pub fn at(&self, pack: &Pack) -> Rates {
        Rates::new(self.quoted.iter().filter_map(|(currency, quoted)| {
            let rate = quoted.per_smallest(pack.currency_decimals(*currency))?;
            Some((*currency, rate))
        }))
    }

    /// How many currencies have one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.quoted.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quoted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use keybrake_pack::builtin;

    use super::*;

    fn table(rates: &str) -> Result<RateTable, String> {
        RateTable::parse(&format!(r#"{{"as_of": "2026-11-01", "rates": [{rates}]}}"#))
    }

    #[test]
    fn a_vendor_says_how_many_decimals_a_currency_has() {
        let table = table(
            r#"{"currency": "EUR", "usd": "1.0845"}, {"currency": "jpy", "usd": "0.0066"}, {"currency": "kwd", "usd": "3.25"}"#,
        )
        .unwrap();
        let stripe = Pack::parse(&builtin("stripe").unwrap()).unwrap();
        let rates = table.at(&stripe);
        for (currency, shown) in [("eur", "0.010845"), ("jpy", "0.0066"), ("kwd", "0.00325")] {
            let currency = Currency::parse(currency).unwrap();
            assert_eq!(rates.of(currency).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let cases = [
            (
                r#"{"currency": "usd", "usd": "1"}"#,
                "rates[0].currency: is the dollar",
            ),
            (
                r#"{"currency": "euro", "usd": "1"}"#,
                "rates[0].currency: must be three letters",
            ),
            (
                r#"{"currency": "eur", "usd": "1.1"}, {"currency": "EUR", "usd": "1.2"}"#,
                "rates[1].currency: is there twice",
            ),
            (
                r#"{"currency": "eur", "usd": "0"}"#,
                "rates[0].usd: must be the US dollars",
            ),
            (
                r#"{"currency": "eur", "usd": "1,08"}"#,
                "rates[0].usd: must be the US dollars",
            ),
            (r#"{"currency": "eur", "usd": 1.08}"#, "invalid type"),
            (
                r#"{"currency": "eur", "usd": "1.08", "note": ""}"#,
                "unknown field",
            ),
        ];
        for (rates, expected) in cases {
            let error = table(rates).unwrap_err();
            assert!(error.starts_with(expected), "{rates}: {error}");
        }
        let no_day = RateTable::parse(r#"{"as_of": "soon", "rates": []}"#);
        assert!(no_day.unwrap_err().starts_with("as_of: must be a day"));
    }
}
