//! Decoded request parameters, in one order whatever the encoding was.

/// Parameters under their full name (`metadata[order]`, `items[0][price]`), sorted by it. No name stands twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    sorted: Vec<Field>,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Full name.
    pub name: String,
    /// Its text.
    pub value: String,
    /// How it was written.
    pub kind: Kind,
}

/// How a value was written. Forms know only text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A form value or a JSON string.
    Text,
    /// A JSON number.
    Number,
    /// JSON `true`, `false`, `null`, or an empty object or array.
    Literal,
}

impl Fields {
    /// The field of exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.sorted
            .binary_search_by(|field| field.name.as_str().cmp(name))
            .ok()
            .and_then(|position| self.sorted.get(position))
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.sorted.iter()
    }
}
