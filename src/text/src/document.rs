//! JSON documents (a pack, the plugin configuration, the ledger's answers), read strictly: no member may stand twice, be missing
//! or be unknown. Every mistake is told, with its place.
//!
//! Derived readers would do the same in ten times the code, once for each record, and all of it would be in the module that every
//! Envoy worker loads.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::json::{Members, elements, text_of};

/// Deepest nesting of what a document may hold in any form.
const MAX_DEPTH: usize = 32;

/// What is wrong in a document, and where: `endpoints[3].cost`, or nothing for the document itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The place; empty for the document itself.
    pub at: String,
    /// What is allowed there.
    pub problem: String,
}

/// What a text says that somebody wrote.
///
/// # Errors
/// It is not JSON, or else all that is wrong in it.
pub fn read<T: FromJson>(text: &str) -> Result<T, Vec<Mistake>> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(vec![Mistake {
            at: String::new(),
            problem: error.to_string(),
        }]);
    }
    read_at("", text.trim())
}

/// What a value says that is found at this place: one JSON value, with nothing around it.
///
/// # Errors
/// All that is wrong in it.
pub fn read_at<T: FromJson>(at: &str, raw: &str) -> Result<T, Vec<Mistake>> {
    let mut reading = Reading {
        at: Some(at.to_owned()),
        mistakes: Vec::new(),
        is_right: true,
        muted: false,
    };
    let read = T::from_json(raw, &mut reading);
    if reading.is_right {
        Ok(read)
    } else {
        Err(reading.mistakes)
    }
}

/// What a value says: one JSON value, with nothing around it. `None`: something in it is wrong, and nobody wants to know what.
pub fn try_read<T: FromJson>(raw: &str) -> Option<T> {
    let mut reading = Reading {
        at: None,
        mistakes: Vec::new(),
        is_right: true,
        muted: false,
    };
    let read = T::from_json(raw, &mut reading);
    reading.is_right.then_some(read)
}

/// A walk through a document: where it is, and what it found wrong so far.
pub struct Reading {
    /// `None`: nobody wants to know.
    at: Option<String>,
    mistakes: Vec<Mistake>,
    is_right: bool,
    /// What is wrong here is told already.
    muted: bool,
}

impl Reading {
    /// Notes what is allowed in the place of what is here.
    pub fn wrong(&mut self, problem: String) {
        if self.muted {
            return;
        }
        self.is_right = false;
        if let Some(at) = &self.at {
            let at = at.clone();
            self.mistakes.push(Mistake { at, problem });
        }
    }

    fn wants(&mut self, what: &str) {
        self.wrong(format!("wants {what}"));
    }

    /// Reads what stands at a member or item of what is here.
    pub fn inside<T: FromJson>(&mut self, part: &str, raw: &str) -> T {
        let Some(at) = &mut self.at else {
            return T::from_json(raw, self);
        };
        let outside = at.len();
        if outside > 0 && !part.starts_with('[') {
            at.push('.');
        }
        at.push_str(part);
        let read = T::from_json(raw, self);
        if let Some(at) = &mut self.at {
            at.truncate(outside);
        }
        read
    }

    /// What stands for something that cannot be read, once that has been told.
    fn blank<T: FromJson>(&mut self) -> T {
        let muted = std::mem::replace(&mut self.muted, true);
        let blank = T::from_json("null", self);
        self.muted = muted;
        blank
    }

    fn object<'a>(&mut self, raw: &'a str) -> Option<Members<'a>> {
        let members = Members::parse(raw);
        if members.is_none() {
            self.wants("an object");
        }
        members
    }

    fn repeated(&mut self, name: &str) {
        self.wrong(format!("duplicate field `{name}`"));
    }
}

/// What a document can hold.
pub trait FromJson: Sized {
    /// Reads it. When it is wrong that is noted, and what comes back is a blank: something that lets the rest be read.
    fn from_json(raw: &str, reading: &mut Reading) -> Self;

    /// What it is when nothing stands there; `None`: something has to.
    fn absent() -> Option<Self> {
        None
    }
}

/// Which kind of thing it is, and what more is said of it: a text alone, or an object with one member.
#[must_use]
pub fn variant(raw: &str) -> (Cow<'_, str>, &str) {
    if let Some(kind) = text_of(raw) {
        return (kind, "null");
    }
    let only = Members::parse(raw).and_then(Members::only);
    only.unwrap_or((Cow::Borrowed(""), "null"))
}

/// A text that stands for something.
pub fn text<T>(
    raw: &str,
    parse: impl FnOnce(&str) -> Option<T>,
    what: &str,
    blank: T,
    reading: &mut Reading,
) -> T {
    let text = text_of(raw);
    text.and_then(|text| parse(&text)).unwrap_or_else(|| {
        reading.wants(what);
        blank
    })
}

/// A record of a document, whose members are taken one by one.
pub struct Record<'a> {
    reading: &'a mut Reading,
    /// `None`: there is no object.
    members: Option<Members<'a>>,
}

impl<'a> Record<'a> {
    /// What is an object with none but these members.
    pub fn of(raw: &'a str, known: &[&str], reading: &'a mut Reading) -> Self {
        let members = reading.object(raw);
        for (position, (name, _)) in members.iter().flat_map(Members::iter).enumerate() {
            if !known.contains(&name) {
                let known = listed(known);
                reading.wrong(format!("unknown field `{name}`, expected one of {known}"));
            }
            let mut earlier = members.iter().flat_map(Members::iter).take(position);
            if earlier.any(|(earlier, _)| earlier == name) {
                reading.repeated(name);
            }
        }
        Self { reading, members }
    }

    /// The member of this name.
    pub fn take<T: FromJson>(&mut self, name: &str, default: Option<T>) -> T {
        let Some(members) = &self.members else {
            return self.reading.blank();
        };
        if let Some(raw) = members.get(name) {
            return self.reading.inside(name, raw);
        }
        default.or_else(T::absent).unwrap_or_else(|| {
            self.reading.wrong(format!("missing field `{name}`"));
            self.reading.blank()
        })
    }
}

/// What one of these words stands for.
pub fn word<T: Copy>(raw: &str, known: &[(&str, T)], blank: T, reading: &mut Reading) -> T {
    let text = text_of(raw).unwrap_or_default();
    let mut found = known.iter().filter(|(name, _)| *name == text);
    if let Some((_, meant)) = found.next() {
        return *meant;
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let names = listed(&names);
    reading.wrong(format!("unknown variant {raw}, expected one of {names}"));
    blank
}

fn listed(names: &[&str]) -> String {
    format!("`{}`", names.join("`, `"))
}

/// JSON of any form.
impl FromJson for Value {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        refuse_repeated(raw, 0, reading);
        serde_json::from_str(raw).unwrap_or_else(|error| {
            // Valid JSON that stands for nothing: half a surrogate pair, a number without end.
            reading.wrong(error.to_string());
            Self::Null
        })
    }
}

fn refuse_repeated(raw: &str, depth: usize, reading: &mut Reading) {
    if depth > MAX_DEPTH {
        reading.wrong(format!("is nested more than {MAX_DEPTH} deep"));
    } else if let Some(members) = Members::parse(raw) {
        for (position, (name, raw)) in members.iter().enumerate() {
            if members
                .iter()
                .take(position)
                .any(|(earlier, _)| earlier == name)
            {
                reading.repeated(name);
            }
            refuse_repeated(raw, depth.saturating_add(1), reading);
        }
    } else {
        for raw in elements(raw).into_iter().flatten() {
            refuse_repeated(raw, depth.saturating_add(1), reading);
        }
    }
}

/// Something that is read later, by its own rules.
pub struct Raw(pub String);

impl FromJson for Raw {
    fn from_json(raw: &str, _: &mut Reading) -> Self {
        Self(raw.to_owned())
    }
}

impl FromJson for String {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let text = text_of(raw);
        text.map_or_else(
            || {
                reading.wants("a text");
                Self::new()
            },
            Cow::into_owned,
        )
    }
}

impl FromJson for bool {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        if !matches!(raw, "true" | "false") {
            reading.wants("true or false");
        }
        raw == "true"
    }
}

/// Whole numbers.
macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl FromJson for $number {
            fn from_json(raw: &str, reading: &mut Reading) -> Self {
                raw.parse().unwrap_or_else(|_| {
                    reading.wants(concat!("a whole number that fits into ", stringify!($number)));
                    0
                })
            }
        }
    )*};
}

whole_numbers!(u8, u16, u32, u64, i64, usize);

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        match raw {
            "null" => None,
            _ => Some(T::from_json(raw, reading)),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let Some(items) = elements(raw) else {
            reading.wants("a list");
            return Self::new();
        };
        let mut read = Self::with_capacity(items.len());
        for (position, raw) in items.into_iter().enumerate() {
            let place = reading.at.as_ref().map(|_| format!("[{position}]"));
            read.push(reading.inside(place.as_deref().unwrap_or_default(), raw));
        }
        read
    }
}

/// A pair of texts, written as a list.
impl FromJson for (String, String) {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        if elements(raw).is_none_or(|items| items.len() != 2) {
            reading.wants("a list of two texts");
            return Self::default();
        }
        let mut texts = Vec::from_json(raw, reading).into_iter();
        (
            texts.next().unwrap_or_default(),
            texts.next().unwrap_or_default(),
        )
    }
}

/// Values by name, sorted by it. No name stands twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        let found = self.place_of(name).ok();
        let found = found.and_then(|position| self.0.get(position));
        found.map(|(_, value)| value)
    }

    /// Where this name stands, or else would.
    fn place_of(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| have.as_str().cmp(name))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.0
            .iter_mut()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The same names with what becomes of their values.
    pub fn map<U>(self, mut each: impl FnMut(&str, T) -> U) -> Named<U> {
        let named = self.0.into_iter().map(|(name, value)| {
            let value = each(&name, value);
            (name, value)
        });
        Named(named.collect())
    }
}

impl<T> IntoIterator for Named<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T: FromJson> FromJson for Named<T> {
    fn from_json(raw: &str, reading: &mut Reading) -> Self {
        let mut read = Self::default();
        let members = reading.object(raw);
        for (name, raw) in members.iter().flat_map(Members::iter) {
            let value = reading.inside(name, raw);
            match read.place_of(name) {
                Ok(_) => reading.repeated(name),
                Err(place) => read.0.insert(place, (name.to_owned(), value)),
            }
        }
        read
    }
}

/// A record as it stands in a document: each field is a member of its name, or of the name given with `as`. Without `= default` it
/// has to be there, unless it is an `Option`. What follows after `without` is in the record and not in the document.
#[macro_export]
macro_rules! record {
    (
        $(#[$about:meta])*
        $visible:vis struct $name:ident {
            $($(#[$about_field:meta])* $visible_field:vis $field:ident $(as $member:literal)? : $kind:ty $(= $default:expr)?),* $(,)?
        }
        $(without {
            $($(#[$about_rest:meta])* $visible_rest:vis $rest:ident: $kind_rest:ty = $value_rest:expr),* $(,)?
        })?
    ) => {
        $(#[$about])*
        $visible struct $name {
            $($(#[$about_field])* $visible_field $field: $kind,)*
            $($($(#[$about_rest])* $visible_rest $rest: $kind_rest,)*)?
        }

        $crate::readable!($name {
            $($field $(as $member)? $(= $default)?),*
        } $(without { $($rest = $value_rest),* })?);
    };
}

/// The same for a record that is defined elsewhere.
#[macro_export]
macro_rules! readable {
    (
        $name:ident { $($field:ident $(as $member:literal)? $(= $default:expr)?),* $(,)? }
        $(without { $($rest:ident = $value_rest:expr),* })?
    ) => {
        impl $crate::document::FromJson for $name {
            fn from_json(raw: &str, reading: &mut $crate::document::Reading) -> Self {
                let known = [$($crate::member!($field $(as $member)?)),*];
                let mut record = $crate::document::Record::of(raw, &known, reading);
                Self {
                    $($field: record.take(
                        $crate::member!($field $(as $member)?),
                        $crate::given!($($default)?),
                    ),)*
                    $($($rest: $value_rest,)*)?
                }
            }
        }
    };
}

/// The name of a field in the document.
#[macro_export]
macro_rules! member {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident as $member:literal) => {
        $member
    };
}

/// The default of a field, if it has one.
#[macro_export]
macro_rules! given {
    () => {
        None
    };
    ($default:expr) => {
        Some($default)
    };
}

/// The words that stand for the values of an enum, for all of them. The first is what it is when no word is right.
#[macro_export]
macro_rules! words {
    ($name:ident: $first:ident = $first_word:literal $(, $variant:ident = $word:literal)* $(,)?) => {
        impl $crate::document::FromJson for $name {
            fn from_json(raw: &str, reading: &mut $crate::document::Reading) -> Self {
                const fn _each_has_a_word(value: $name) {
                    match value { $name::$first $(| $name::$variant)* => () }
                }
                let known = [($first_word, Self::$first) $(, ($word, Self::$variant))*];
                $crate::document::word(raw, &known, Self::$first, reading)
            }
        }
    };
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
