//! Typed reading of decoded parameters, with Stripe's errors for what does not fit.

use std::collections::BTreeMap;

use crate::answer::ApiError;
use crate::form::{Node, Params};
use crate::objects::currency;

/// Amounts have at most eight digits (STRIPE.md).
const MAX_AMOUNT: i64 = 99_999_999;

impl Params {
    /// Refuses parameters the endpoint does not know.
    ///
    /// # Errors
    /// 400 `parameter_unknown` for the first that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self
            .0
            .keys()
            .find(|name| *name != "expand" && !known.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(
                ApiError::invalid(format!("Received unknown parameter: {name}"))
                    .code("parameter_unknown")
                    .param(name),
            ),
        }
    }

    /// A text parameter; the empty text counts as absent, as in Stripe's "unset".
    ///
    /// # Errors
    /// 400 when it is a list or a map.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Node::Text(text)) if text.is_empty() => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(Node::Map(_)) => {
                Err(ApiError::invalid(format!("Invalid string: {name}")).param(name))
            }
        }
    }

    /// A text parameter as owned text.
    ///
    /// # Errors
    /// As [`Params::text`].
    pub fn owned(&self, name: &str) -> Result<Option<String>, ApiError> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    /// `true` or `false`, spelled exactly so.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name)? {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(ApiError::invalid(format!("Invalid boolean: {other}")).param(name)),
        }
    }

    /// A positive amount in minor units, of at most eight digits.
    ///
    /// # Errors
    /// 400 with Stripe's codes for text that is not such a number.
    pub fn amount(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ApiError::invalid(format!("Invalid integer: {text}"))
                .code("parameter_invalid_integer")
                .param(name));
        }
        match text.parse::<i64>() {
            Ok(0) => Err(
                ApiError::invalid("This value must be greater than or equal to 1.")
                    .code("parameter_invalid_integer")
                    .param(name),
            ),
            Ok(amount) if amount <= MAX_AMOUNT => Ok(Some(amount)),
            _ => Err(ApiError::invalid("Amount must be no more than $999,999.99")
                .code("amount_too_large")
                .param(name)),
        }
    }

    /// An amount that must be there.
    ///
    /// # Errors
    /// As [`Params::amount`], and 400 `parameter_missing`.
    pub fn required_amount(&self, name: &str) -> Result<i64, ApiError> {
        self.amount(name)?.ok_or_else(|| ApiError::missing(name))
    }

    /// The required `currency`, in lower case.
    ///
    /// # Errors
    /// 400 when it is missing or none that Stripe knows.
    pub fn required_currency(&self) -> Result<String, ApiError> {
        let text = self
            .text("currency")?
            .ok_or_else(|| ApiError::missing("currency"))?;
        currency::parse(text).ok_or_else(|| {
            ApiError::invalid(format!("Invalid currency: {text}.")).param("currency")
        })
    }

    /// A whole number in this range.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn integer(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match text.parse::<i64>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(ApiError::invalid(format!("Invalid integer: {text}"))
                .code("parameter_invalid_integer")
                .param(name)),
        }
    }

    /// The texts of a map parameter (`metadata`), or of a list in the order of its indexes.
    ///
    /// # Errors
    /// 400 when it nests deeper.
    pub fn map(&self, name: &str) -> Result<BTreeMap<String, String>, ApiError> {
        let Some(Node::Map(map)) = self.0.get(name) else {
            return Ok(BTreeMap::new());
        };
        let mut texts = BTreeMap::new();
        for (key, node) in map {
            match node {
                Node::Text(text) => texts.insert(key.clone(), text.clone()),
                Node::Map(_) => {
                    return Err(
                        ApiError::invalid(format!("Invalid string: {name}[{key}]")).param(name)
                    );
                }
            };
        }
        Ok(texts)
    }

    /// A text deep in the tree, such as `payment_method_data[card][token]`.
    #[must_use]
    pub fn deep(&self, path: &[&str]) -> Option<&str> {
        let (last, ahead) = path.split_last()?;
        let mut map = &self.0;
        for name in ahead {
            match map.get(*name)? {
                Node::Map(inner) => map = inner,
                Node::Text(_) => return None,
            }
        }
        match map.get(*last)? {
            Node::Text(text) => Some(text),
            Node::Map(_) => None,
        }
    }

    /// True when the parameter is there in any form.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Params {
        let mut params = Params::default();
        params.read(text.as_bytes()).unwrap();
        params
    }

    #[test]
    fn amounts_are_positive_whole_numbers_of_at_most_eight_digits() {
        for (text, amount) in [("1", 1), ("0900", 900), ("99999999", 99_999_999)] {
            assert_eq!(
                read(&format!("amount={text}")).amount("amount").unwrap(),
                Some(amount),
                "{text}"
            );
        }
        for text in [
            "0",
            "-1",
            "%2B900",
            "9.0",
            "1e5",
            "100000000",
            "0x10",
            "99999999999999999999",
            "NaN",
            "%D9%A1",
        ] {
            let error = read(&format!("amount={text}"))
                .amount("amount")
                .unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some("amount")),
                "{text}"
            );
        }
        let missing = read("amount=").required_amount("amount").unwrap_err();
        assert_eq!(missing.code.as_deref(), Some("parameter_missing"));
    }

    #[test]
    fn unknown_parameters_are_named() {
        let error = read("amount=1&amuont=2").only(&["amount"]).unwrap_err();
        assert_eq!(
            (error.code.as_deref(), error.param.as_deref()),
            (Some("parameter_unknown"), Some("amuont"))
        );
    }

    #[test]
    fn deep_texts_are_found() {
        let params = read("payment_method_data[card][token]=tok_visa&metadata[a]=1");
        assert_eq!(
            params.deep(&["payment_method_data", "card", "token"]),
            Some("tok_visa")
        );
        assert_eq!(
            params.map("metadata").unwrap().get("a").map(String::as_str),
            Some("1")
        );
    }
}
