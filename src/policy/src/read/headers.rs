//! Looking up headers as Envoy gives them.

use crate::pack::{HeaderNames, Place};
use keybrake_text::bytes::Text;

/// Names and values as Envoy gives them.
pub(super) type Raw<'a> = &'a [(Vec<u8>, Vec<u8>)];

/// Whether any header has bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotText {
    Found,
    None,
}

/// The value of a header, and what its bytes are.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub bytes: &'a [u8],
    pub text: Text,
}

/// A header that stands more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeated;

/// How often a header stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Times {
    Never,
    Once,
    More,
}

/// The headers, walked over once: what anything looks at is in its place.
pub(super) struct Headers<'a> {
    raw: Raw<'a>,
    names: &'a HeaderNames,
    /// By place: the first value, and how often the header stands.
    found: Vec<(Value<'a>, Times)>,
    /// Length of all names and values.
    pub bytes: usize,
    pub not_text: NotText,
}

impl<'a> Headers<'a> {
    pub(super) fn look(raw: Raw<'a>, names: &'a HeaderNames) -> Self {
        let nothing = Value {
            bytes: b"",
            text: Text::Printable,
        };
        let mut headers = Self {
            raw,
            names,
            found: vec![(nothing, Times::Never); names.places()],
            bytes: 0,
            not_text: NotText::None,
        };
        for (name, value) in raw {
            let both = name.len().saturating_add(value.len());
            headers.bytes = headers.bytes.saturating_add(both);
            let text = Text::of(value);
            let place = names.find(name);
            // A name that has a place is text.
            if (text == Text::NotAscii && std::str::from_utf8(value).is_err())
                || (place.is_none() && std::str::from_utf8(name).is_err())
            {
                headers.not_text = NotText::Found;
            }
            if let Some(found) = place.and_then(|place| headers.found.get_mut(place.0)) {
                *found = match *found {
                    (_, Times::Never) => (Value { bytes: value, text }, Times::Once),
                    (first, _) => (first, Times::More),
                };
            }
        }
        headers
    }

    /// The value of a header that stands at most once.
    pub(super) fn one(&self, place: Place) -> Result<Option<Value<'a>>, Repeated> {
        match self.found.get(place.0) {
            None | Some((_, Times::Never)) => Ok(None),
            Some((value, Times::Once)) => Ok(Some(*value)),
            Some((_, Times::More)) => Err(Repeated),
        }
    }

    /// The first value.
    pub(super) fn first(&self, place: Place) -> Option<&'a [u8]> {
        self.found
            .get(place.0)
            .filter(|(_, times)| *times != Times::Never)
            .map(|(value, _)| value.bytes)
    }

    /// Every value, in the order in which they stand.
    pub(super) fn all(&self, place: Place) -> impl Iterator<Item = &'a [u8]> {
        let more = match self.one(place) {
            Ok(_) => &[][..],
            Err(Repeated) => self.raw,
        };
        let name = self.name(place).as_bytes();
        let repeats = more
            .iter()
            .filter(move |(have, _)| have == name)
            .map(|(_, value)| value.as_slice())
            .skip(1);
        self.first(place).into_iter().chain(repeats)
    }

    pub(super) fn name(&self, place: Place) -> &'a str {
        self.names.name(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::at;

    #[test]
    fn values_are_found_in_their_order_and_each_once() {
        let names = HeaderNames::common();
        let raw: Vec<(Vec<u8>, Vec<u8>)> = [
            ("host", "a"),
            ("x-other", "1"),
            ("connection", "te"),
            ("host", "b"),
            ("host", "a"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let headers = Headers::look(&raw, &names);
        let all = |place| headers.all(place).collect::<Vec<_>>();
        assert_eq!(all(at::HOST), [b"a", b"b", b"a"]);
        assert_eq!(all(at::CONNECTION), [b"te"]);
        assert!(all(at::UPGRADE).is_empty());
        assert_eq!(headers.first(at::HOST), Some(&b"a"[..]));
        assert!(headers.one(at::HOST).is_err());
        assert_eq!(headers.bytes, 4 + 1 + 7 + 1 + 10 + 2 + 4 + 1 + 4 + 1);
    }
}
