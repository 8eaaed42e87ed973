//! Prices that stand in no request and in no answer: units that a request shows, times a rate that the operator pins in the pack.

use crate::compile_endpoints::Uncosted;
use keybrake_text::document::{self, FromJson, Named, Reading};
use keybrake_text::record;

/// Highest rate: a hundred dollars for one unit.
const MAX_MICROS: u64 = 100_000_000;

record! {
    /// How a request is priced.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PricedRule {
        /// What is counted.
        pub units: Units,
        /// What one costs, in micro-dollars (millionths of a US dollar).
        pub micros: Rate,
    }
}

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Units {
    /// The SMS segments of this field's text.
    SegmentsOf(String),
    /// The members of these fields, each a text or an array of texts. A comma in a text counts as one more.
    MembersOf(Vec<String>),
}

/// What one unit costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rate {
    /// Always the same.
    Flat(u64),
    /// By where it goes.
    ByNumber(ByNumber),
}

record! {
    /// Rates by telephone number.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ByNumber {
        /// Field with the number: `+` and 7 to 15 digits.
        pub field: String,
        /// How the number begins → rate. The longest that fits counts; `null`, and none: refused.
        pub prefixes: Named<Option<u64>>,
    }
}

impl FromJson for Units {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let (kind, raw) = document::variant(raw);
        match kind.as_ref() {
            "segments_of" => Self::SegmentsOf(reading.inside(&kind, raw)),
            "members_of" => Self::MembersOf(reading.inside(&kind, raw)),
            _ => {
                reading.wrong("an object with segments_of or members_of".to_owned());
                Self::MembersOf(Vec::new())
            }
        }
    }
}

impl FromJson for Rate {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let (kind, raw) = document::variant(raw);
        match kind.as_ref() {
            "flat" => Self::Flat(reading.inside(&kind, raw)),
            "by_number" => Self::ByNumber(reading.inside(&kind, raw)),
            _ => {
                reading.wrong("an object with flat or by_number".to_owned());
                Self::Flat(0)
            }
        }
    }
}

impl ByNumber {
    /// The rate of a number that has the form of one.
    pub fn rate(&self, number: &str) -> Option<u64> {
        (1..=number.len())
            .rev()
            .filter_map(|length| number.get(..length))
            .find_map(|head| self.prefixes.get(head))
            .copied()
            .flatten()
    }
}

impl PricedRule {
    pub(crate) fn compile(self) -> Result<Self, Uncosted> {
        match &self.units {
            Units::SegmentsOf(field) if field.is_empty() => {
                return Err(("cost.priced.units.segments_of", "the name of a field"));
            }
            Units::MembersOf(fields)
                if fields.is_empty() || fields.iter().any(String::is_empty) =>
            {
                return Err((
                    "cost.priced.units.members_of",
                    "names of fields, at least one",
                ));
            }
            _ => {}
        }
        let fine = |micros: u64| (1..=MAX_MICROS).contains(&micros);
        match &self.micros {
            Rate::Flat(micros) if !fine(*micros) => {
                Err(("cost.priced.micros.flat", "1 to 100000000 micro-dollars"))
            }
            Rate::ByNumber(rates) if rates.field.is_empty() || rates.prefixes.is_empty() => Err((
                "cost.priced.micros.by_number",
                "a field, and at least one prefix",
            )),
            Rate::ByNumber(rates)
                if !rates.prefixes.iter().all(|(prefix, _)| is_prefix(prefix)) =>
            {
                Err((
                    "cost.priced.micros.by_number.prefixes",
                    "+ and 1 to 15 digits",
                ))
            }
            Rate::ByNumber(rates)
                if !rates
                    .prefixes
                    .iter()
                    .filter_map(|(_, rate)| *rate)
                    .all(fine) =>
            {
                Err((
                    "cost.priced.micros.by_number.prefixes",
                    "1 to 100000000 micro-dollars, or null",
                ))
            }
            _ => Ok(self),
        }
    }
}

fn is_prefix(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|rest| {
        (1..=15).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use crate::{Pack, builtin};

    #[test]
    fn rates_of_a_pack_keep_their_bounds() {
        let twilio = builtin("twilio").unwrap();
        let cases = [
            (
                r#""segments_of": "Body""#,
                r#""segments_of": """#,
                ".cost.priced.units.segments_of",
            ),
            (
                r#""segments_of": "Body""#,
                r#""members_of": []"#,
                ".cost.priced.units.members_of",
            ),
            (
                r#""field": "To""#,
                r#""field": """#,
                ".cost.priced.micros.by_number:",
            ),
            (
                r#""+1": 15000"#,
                r#""1": 15000"#,
                ".prefixes: + and 1 to 15 digits",
            ),
            (r#""+1": 15000"#, r#""+1": 0"#, ".prefixes: 1 to 100000000"),
            (
                r#""+1": 15000"#,
                r#""+1": 100000001"#,
                ".prefixes: 1 to 100000000",
            ),
            (
                r#""class": "money""#,
                r#""class": "money_optional""#,
                ".cost.priced: only for money",
            ),
            (
                r#""cost": {"#,
                r#""cost": {"fixed_amount": 1, "#,
                ".cost.priced: only for money",
            ),
        ];
        for (from, to, expected) in cases {
            assert!(twilio.contains(from), "{from}");
            let message = Pack::parse(&twilio.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{to}: {message}");
        }
        let resend = builtin("resend")
            .unwrap()
            .replace(r#""flat": 900"#, r#""flat": 0"#);
        let message = Pack::parse(&resend).unwrap_err().to_string();
        assert!(message.contains(".cost.priced.micros.flat"), "{message}");
    }
}
