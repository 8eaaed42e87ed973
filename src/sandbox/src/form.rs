//! Form-encoded parameters as Stripe reads them: `a[b]=c`, `a[0]=c`, `a[]=c`, decoded into a tree. What a
//! parameter must look like is in `params`.
//!
//! Lists are maps with the index as the name, so that `a[]=x` and `a[0]=x` are the same parameters. The last of two equal
//! names wins, as in Rack; the sandbox is on purpose as lenient as the vendor here, since the filter must not rely on it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::answer::ApiError;

/// The most pairs one request may have.
const MAX_PAIRS: usize = 1_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Text(String),
    Map(BTreeMap<String, Node>),
}

/// The decoded parameters of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(pub(crate) BTreeMap<String, Node>);

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

    /// Adds the members of a JSON object: lists become maps as in a form.
    ///
    /// # Errors
    /// When it is no JSON object, or nests too deep.
    pub fn read_json(&mut self, body: &[u8]) -> Result<(), ApiError> {
        let wrong = || ApiError::invalid("Invalid request: the body is not a JSON object.");
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(body).map_err(|_| wrong())?;
        for (name, value) in members {
            if let Some(node) = node(value, 1).ok_or_else(wrong)? {
                self.0.insert(name, node);
            }
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
}

/// A JSON value as a form would say it; `None`: too deep. What is null is not there.
fn node(value: serde_json::Value, depth: usize) -> Option<Option<Node>> {
    use serde_json::Value;
    if depth > MAX_DEPTH {
        return None;
    }
    let members: Vec<(String, Value)> = match value {
        Value::Null => return Some(None),
        Value::Bool(truth) => return Some(Some(Node::Text(truth.to_string()))),
        Value::Number(number) => return Some(Some(Node::Text(number.to_string()))),
        Value::String(text) => return Some(Some(Node::Text(text))),
        Value::Array(elements) => {
            let numbered = elements.into_iter().enumerate();
            numbered.map(|(n, inner)| (n.to_string(), inner)).collect()
        }
        Value::Object(members) => members.into_iter().collect(),
    };
    let mut map = BTreeMap::new();
    for (name, inner) in members {
        if let Some(inner) = node(inner, depth.saturating_add(1))? {
            map.insert(name, inner);
        }
    }
    Some(Some(Node::Map(map)))
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

    #[test]
    fn json_is_read_as_the_form_that_says_the_same() {
        let mut json = Params::default();
        json.read_json(br#"{"a": {"b": 1, "c": null}, "d": ["x", true]}"#)
            .unwrap();
        let mut form = Params::default();
        form.read(b"a[b]=1&d[0]=x&d[1]=true").unwrap();
        assert_eq!(json, form);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(12), "}".repeat(12));
        for wrong in ["[]", "1", "{", deep.as_str()] {
            assert!(json.read_json(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

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
}
