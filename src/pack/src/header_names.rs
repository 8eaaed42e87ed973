//! The request headers that anything looks at, each with its place, so that one walk over a request finds them all.

/// Where a header's value is kept while a request is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub usize);

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
pub mod at {
    use crate::Place;

    /// `:method`.
    pub const METHOD: Place = Place(0);
    /// `:path`.
    pub const PATH: Place = Place(1);
    /// `:authority`.
    pub const AUTHORITY: Place = Place(2);
    /// `:protocol`.
    pub const PROTOCOL: Place = Place(3);
    /// `upgrade`.
    pub const UPGRADE: Place = Place(4);
    /// `host`.
    pub const HOST: Place = Place(5);
    /// `connection`.
    pub const CONNECTION: Place = Place(6);
    /// `proxy-connection`.
    pub const PROXY_CONNECTION: Place = Place(7);
    /// `authorization`.
    pub const AUTHORIZATION: Place = Place(8);
    /// `x-agent-run-id`.
    pub const RUN_ID: Place = Place(9);
    /// `traceparent`.
    pub const TRACEPARENT: Place = Place(10);
    /// `transfer-encoding`.
    pub const TRANSFER_ENCODING: Place = Place(11);
    /// `content-length`.
    pub const CONTENT_LENGTH: Place = Place(12);
    /// `content-encoding`.
    pub const CONTENT_ENCODING: Place = Place(13);
    /// `content-type`.
    pub const CONTENT_TYPE: Place = Place(14);
    /// Headers that change the method behind our back, in some frameworks.
    pub const METHOD_OVERRIDES: [Place; 3] = [Place(15), Place(16), Place(17)];
}

/// The names that a pack's requests are looked through for.
#[derive(Debug, Clone)]
pub struct HeaderNames {
    /// By place.
    names: Vec<String>,
    /// Length of a name → the places with a name of that length.
    by_length: Vec<Vec<Place>>,
}

impl HeaderNames {
    /// The common headers alone.
    pub fn common() -> Self {
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
    pub fn place_for(&mut self, name: &str) -> Place {
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
    pub fn find(&self, name: &[u8]) -> Option<Place> {
        let places = self.by_length.get(name.len())?;
        places
            .iter()
            .find(|place| self.name(**place).as_bytes() == name)
            .copied()
    }

    /// The name at a place.
    pub fn name(&self, place: Place) -> &str {
        self.names.get(place.0).map_or("", String::as_str)
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

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
        assert_eq!(names.places(), expected.len());
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
