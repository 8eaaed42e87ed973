//! Looking up headers as Envoy gives them.

/// Whether any header has bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotText {
    Found,
    None,
}

/// The headers, looked up by lower-case name. There are few, so a walk beats an index.
#[derive(Clone, Copy)]
pub(super) struct Headers<'a>(pub(super) &'a [(Vec<u8>, Vec<u8>)]);

impl<'a> Headers<'a> {
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(have, _)| have == name.as_bytes())
            .map(|(_, value)| value.as_slice())
    }

    pub(super) fn first(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    pub(super) fn all_text(self) -> NotText {
        let fine = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
        if self.0.iter().all(|(name, value)| fine(name) && fine(value)) {
            NotText::None
        } else {
            NotText::Found
        }
    }
}
