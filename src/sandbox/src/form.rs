//! Form-encoded parameters as Stripe reads them: `a[b]=c`, `a[0]=c`, `a[]=c`, decoded into a tree.
//!
//! Lists are maps with the index as the name, so that `a[]=x` and `a[0]=x` are the same parameters. The last of two equal
//! names wins, as in Rack; the sandbox is on purpose as lenient as the vendor here, since the filter must not rely on it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::answer::ApiError;
use crate::objects::currency;

/// The most pairs one request may have.
const MAX_PAIRS: usize = 1_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 8;
/// Amounts have at most eight digits (STRIPE.md).
const MAX_AMOUNT: i64 = 99_999_999;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    Map(BTreeMap<String, Node>),
}

/// The decoded parameters of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, Node>);

impl Params {
    /// Adds the parameters of one encoded text (a query or a body).
    ///
    /// # Errors
    /// When a name or value is not UTF-8 after decoding, brackets do not match, or there are too many.
    pub fn read(&mut self, encoded: &[u8]) -> Result<(), ApiError> {
        for (n, pair) in encoded
            .split(|b| *b == b'&')
            .filter(|pair| !pair.is_empty())
            .enumerate()
        {
            if n >= MAX_PAIRS {
                return Err(ApiError::invalid("Invalid request: too many parameters."));
            }
            let mut sides = pair.splitn(2, |b| *b == b'=');
            let name = decode(sides.next().unwrap_or_default())?;
            let value = decode(sides.next().unwrap_or_default())?;
            let path = segments(&name)
                .ok_or_else(|| ApiError::invalid(format!("Invalid parameter name: {name}")))?;
            put(&mut self.0, &path, value, &name)?;
        }
        Ok(())
    }

    /// SHA-256 over the decoded parameters in one canonical order: what idempotency compares.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        feed(&mut hash, &self.0);
        hash.finalize().into()
    }

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

fn feed(hash: &mut Sha256, map: &BTreeMap<String, Node>) {
    hash.update(b"{");
    for (name, node) in map {
        feed_text(hash, name);
        match node {
            Node::Text(text) => feed_text(hash, text),
            Node::Map(inner) => feed(hash, inner),
        }
    }
    hash.update(b"}");
}

/// Length first, so that no two different trees feed the same bytes.
fn feed_text(hash: &mut Sha256, text: &str) {
    hash.update(b"s");
    hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(text.as_bytes());
}

fn put(
    map: &mut BTreeMap<String, Node>,
    path: &[&str],
    value: String,
    full: &str,
) -> Result<(), ApiError> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let name = if first.is_empty() {
        map.len().to_string()
    } else {
        (*first).to_owned()
    };
    if rest.is_empty() {
        map.insert(name, Node::Text(value));
        return Ok(());
    }
    match map
        .entry(name)
        .or_insert_with(|| Node::Map(BTreeMap::new()))
    {
        Node::Map(inner) => put(inner, rest, value, full),
        Node::Text(_) => Err(ApiError::invalid(format!("Invalid parameter name: {full}"))),
    }
}

/// `a[b][0]` → `a`, `b`, `0`; `a[]` → `a`, empty. `None` when brackets do not match or it nests too deep.
fn segments(name: &str) -> Option<Vec<&str>> {
    let Some((first, mut rest)) = name.split_once('[') else {
        return (!name.is_empty() && !name.contains(']')).then(|| vec![name]);
    };
    let mut path = vec![first];
    loop {
        let (inner, after) = rest.split_once(']')?;
        path.push(inner);
        if after.is_empty() {
            break;
        }
        rest = after.strip_prefix('[')?;
    }
    (!first.is_empty() && path.len() <= MAX_DEPTH).then_some(path)
}

/// Form decoding: `+` is a space, `%` sequences must be whole, the result must be UTF-8.
fn decode(raw: &[u8]) -> Result<String, ApiError> {
    let broken =
        || ApiError::invalid("Invalid request: parameters must be valid form-encoded UTF-8.");
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [
                    *rest.next().ok_or_else(broken)?,
                    *rest.next().ok_or_else(broken)?,
                ];
                let mut one = [0_u8; 1];
                hex::decode_to_slice(pair, &mut one).map_err(|_| broken())?;
                let [byte] = one;
                byte
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| broken())
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
    fn alike_parameters_in_other_bytes_have_the_same_digest() {
        let same = [
            ("a=b+c&d=e", "d=e&a=b%20c"),
            (
                "metadata[x]=1&metadata[y]=2",
                "metadata%5By%5D=2&metadata%5Bx%5D=1",
            ),
            ("expand[]=a&expand[]=b", "expand[0]=a&expand[1]=b"),
            ("amount=1&amount=2", "amount=2"),
        ];
        for (left, right) in same {
            assert_eq!(
                read(left).digest(),
                read(right).digest(),
                "{left} and {right}"
            );
        }
        let different = [
            ("a=1", "a=2"),
            ("a=1", "b=1"),
            ("a[b]=1", "a=1"),
            ("a=bc&d=", "a=b&d=c"),
            ("a[b]=c&d=e", "a[b]=c&a[d]=e"),
        ];
        for (left, right) in different {
            assert_ne!(
                read(left).digest(),
                read(right).digest(),
                "{left} and {right}"
            );
        }
    }

    #[test]
    fn broken_names_and_values_are_refused() {
        for text in [
            "a[=1",
            "a]=1",
            "[a]=1",
            "a[b]c=1",
            "a=%zz",
            "a=%f",
            "a=%ff",
            "=1",
            "a=1&a[b]=2",
            "a[b][c][d][e][f][g][h][i]=1",
        ] {
            assert!(Params::default().read(text.as_bytes()).is_err(), "{text}");
        }
        let many = "a=1&".repeat(MAX_PAIRS + 1);
        assert!(Params::default().read(many.as_bytes()).is_err());
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
