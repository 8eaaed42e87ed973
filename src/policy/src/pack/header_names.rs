//! The request headers that anything looks at, each with its place, so that one walk over a request finds them all.

/// Where a header's value is kept while a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) usize);

/// Headers that mean the same for every vendor. Their places are the positions here.
const COMMON: [&str; 18] = [
    ":method",
    ":path",
    ":authority",
    ":protocol",
    "upgrade",
    "host",
    "connection",
    "proxy-connection",
    "authorization",
    "x-agent-run-id",
    "traceparent",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "content-type",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Places of the headers that mean the same for every vendor.
pub(crate) mod at {
    use super::Place;

    pub(crate) const METHOD: Place = Place(0);
    pub(crate) const PATH: Place = Place(1);
    pub(crate) const AUTHORITY: Place = Place(2);
    pub(crate) const PROTOCOL: Place = Place(3);
    pub(crate) const UPGRADE: Place = Place(4);
    pub(crate) const HOST: Place = Place(5);
    pub(crate) const CONNECTION: Place = Place(6);
    pub(crate) const PROXY_CONNECTION: Place = Place(7);
    pub(crate) const AUTHORIZATION: Place = Place(8);
    pub(crate) const RUN_ID: Place = Place(9);
    pub(crate) const TRACEPARENT: Place = Place(10);
    pub(crate) const TRANSFER_ENCODING: Place = Place(11);
    pub(crate) const CONTENT_LENGTH: Place = Place(12);
    pub(crate) const CONTENT_ENCODING: Place = Place(13);
    pub(crate) const CONTENT_TYPE: Place = Place(14);
    /// Headers that change the method behind our back, in some frameworks.
    pub(crate) const METHOD_OVERRIDES: [Place; 3] = [Place(15), Place(16), Place(17)];
}

/// The names that a pack's requests are looked through for.
#[derive(Debug, Clone)]
pub(crate) struct HeaderNames {
    /// By place.
    names: Vec<String>,
    /// Length of a name → the places with a name of that length.
    by_length: Vec<Vec<Place>>,
}

impl HeaderNames {
    /// The common headers alone.
    pub(crate) fn common() -> Self {
        let mut names = Self {
            names: Vec::new(),
            by_length: Vec::new(),
        };
        for name in COMMON {
            names.place_for(name);
        }
        names
    }

    /// The place of this name, old or new.
    pub(crate) fn place_for(&mut self, name: &str) -> Place {
        if let Some(place) = self.find(name.as_bytes()) {
            return place;
        }
        let place = Place(self.names.len());
        self.names.push(name.to_owned());
        if self.by_length.len() <= name.len() {
            let lengths = name.len().saturating_add(1);
            self.by_length.resize_with(lengths, Vec::new);
        }
        if let Some(places) = self.by_length.get_mut(name.len()) {
            places.push(place);
        }
        place
    }

    /// The place of a header, if anything looks at it.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Place> {
        let places = self.by_length.get(name.len())?;
        places
            .iter()
            .find(|place| self.name(**place).as_bytes() == name)
            .copied()
    }

    /// The name at a place.
    pub(crate) fn name(&self, place: Place) -> &str {
        self.names.get(place.0).map_or("", String::as_str)
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_headers_have_their_places() {
        let names = HeaderNames::common();
        let expected = [
            (at::METHOD, ":method"),
            (at::PATH, ":path"),
            (at::AUTHORITY, ":authority"),
            (at::PROTOCOL, ":protocol"),
            (at::UPGRADE, "upgrade"),
            (at::HOST, "host"),
            (at::CONNECTION, "connection"),
            (at::PROXY_CONNECTION, "proxy-connection"),
            (at::AUTHORIZATION, "authorization"),
            (at::RUN_ID, "x-agent-run-id"),
            (at::TRACEPARENT, "traceparent"),
            (at::TRANSFER_ENCODING, "transfer-encoding"),
            (at::CONTENT_LENGTH, "content-length"),
            (at::CONTENT_ENCODING, "content-encoding"),
            (at::CONTENT_TYPE, "content-type"),
            (at::METHOD_OVERRIDES[0], "x-http-method-override"),
            (at::METHOD_OVERRIDES[1], "x-http-method"),
            (at::METHOD_OVERRIDES[2], "x-method-override"),
        ];
        assert_eq!(names.len(), expected.len());
        for (place, name) in expected {
            assert_eq!(names.name(place), name);
            assert_eq!(names.find(name.as_bytes()), Some(place));
        }
        assert_eq!(names.find(b""), None);
        assert_eq!(names.find(b"hosts"), None);
        assert_eq!(names.find(&[b'x'; 1_000]), None);
    }

    #[test]
    fn a_name_has_one_place() {
        let mut names = HeaderNames::common();
        assert_eq!(names.place_for("content-type"), at::CONTENT_TYPE);
        let place = names.place_for("stripe-version");
        assert_eq!(names.place_for("stripe-version"), place);
        assert_eq!(names.find(b"stripe-version"), Some(place));
    }
}
