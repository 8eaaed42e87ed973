//! What stands in a JSON text, found by one strict walk over it.
//!
//! What is JSON and what is not is exactly what `serde_json` says (the tests compare the two); values are not read
//! before somebody wants them. Nesting costs memory, never stack.

use std::borrow::Cow;

use crate::bytes;

/// The members of one JSON object, their values unread. A name that stands twice has its last value.
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

/// Most members of an object, and most elements of an array, that are looked at one by one. What has more is not read: it would
/// take many times its own size in memory.
pub const MOST: usize = 10_000;

/// Room for the members of a text so long; one takes about so many bytes in a vendor's answer.
fn likely_members(text: &str) -> usize {
    const BYTES_EACH: usize = 40;
    (text.len() / BYTES_EACH).clamp(4, 48)
}

impl<'a> Members<'a> {
    /// The members of a text that is one JSON object with at most [`MOST`] and nothing else.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut walk = Walk::over(text);
        let mut members = Vec::with_capacity(likely_members(text));
        walk.space();
        walk.expect(b'{')?;
        walk.space();
        if walk.next_is(b'}') == Next::Taken {
            walk.space();
            return walk.end().map(|()| Self(members));
        }
        loop {
            if members.len() >= MOST {
                return None;
            }
            let name = walk.name()?;
            let start = walk.at;
            walk.value()?;
            members.push((name, text.get(start..walk.at)?));
            walk.space();
            if walk.next_is(b',') == Next::Other {
                break;
            }
            walk.space();
        }
        walk.expect(b'}')?;
        walk.space();
        walk.end().map(|()| Self(members))
    }

    /// Names and values in their order, repeated names included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }

    /// The only member; `None`: there are more, or none.
    #[must_use]
    pub fn only(self) -> Option<(Cow<'a, str>, &'a str)> {
        let mut members = self.0.into_iter();
        members.next().filter(|_| members.len() == 0)
    }

    /// The value of this name, as it is written.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut found = self.0.iter().rev().filter(|(have, _)| have == name);
        found.next().map(|(_, raw)| *raw)
    }

    /// The value at this name: a member, or `amount[value]` for a member of a member.
    pub fn at(&self, name: &str) -> Option<&'a str> {
        let Some((outer, inner)) = name.split_once('[') else {
            return self.get(name);
        };
        let parts = inner.split('[').map(|part| part.trim_end_matches(']'));
        let mut parts = parts.into_iter();
        parts.try_fold(self.get(outer)?, |raw, part| Members::parse(raw)?.get(part))
    }
}

/// The values of a text that is one JSON array with at most [`MOST`] and nothing else.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let mut walk = Walk::over(text);
    let mut elements = Vec::new();
    walk.space();
    walk.expect(b'[')?;
    walk.space();
    if walk.next_is(b']') == Next::Other {
        loop {
            if elements.len() >= MOST {
                return None;
            }
            let start = walk.at;
            walk.value()?;
            elements.push(text.get(start..walk.at)?);
            walk.space();
            if walk.next_is(b',') == Next::Other {
                break;
            }
            walk.space();
        }
        walk.expect(b']')?;
    }
    walk.space();
    walk.end().map(|()| elements)
}

/// The text of a value that is a JSON string.
pub fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.bytes().any(|byte| byte == b'\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

struct Walk<'a> {
    text: &'a str,
    at: usize,
    open: Open,
}

/// The arrays and objects around a place, innermost last. The last 64 of them take no allocation.
#[derive(Default)]
struct Open {
    depth: usize,
    /// A bit for each, the innermost lowest: set for an object.
    last: u64,
    /// Those further out, 64 at a time.
    before: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Around {
    Array,
    Object,
}

impl Open {
    const AT_ONCE: usize = u64::BITS as usize;

    fn push(&mut self, around: Around) {
        if self.depth > 0 && self.depth.is_multiple_of(Self::AT_ONCE) {
            self.before.push(self.last);
        }
        self.last = self.last << 1 | u64::from(matches!(around, Around::Object));
        self.depth = self.depth.saturating_add(1);
    }

    fn innermost(&self) -> Option<Around> {
        (self.depth > 0).then_some(match self.last & 1 {
            0 => Around::Array,
            _ => Around::Object,
        })
    }

    fn pop(&mut self) {
        self.last >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth.is_multiple_of(Self::AT_ONCE) {
            self.last = self.before.pop().unwrap_or_default();
        }
    }
}

/// Whether the next byte was the one that was asked for.
#[derive(PartialEq, Eq)]
enum Next {
    /// It was, and lies behind.
    Taken,
    /// It was another.
    Other,
}

/// Whether a string has escapes.
#[derive(PartialEq, Eq)]
enum Escapes {
    Some,
    None,
}

impl<'a> Walk<'a> {
    fn over(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            open: Open::default(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    fn next_is(&mut self, wanted: u8) -> Next {
        if self.peek() == Some(wanted) {
            self.skip(1);
            Next::Taken
        } else {
            Next::Other
        }
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.next_is(wanted) == Next::Taken).then_some(())
    }

    fn end(&self) -> Option<()> {
        (self.at == self.text.len()).then_some(())
    }

    /// Passes over white space: a line end with its indentation at once.
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.skip(1);
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            self.skip(bytes::leading_spaces(rest));
        }
    }

    /// A member's name and what stands before its value.
    fn name(&mut self) -> Option<Cow<'a, str>> {
        let start = self.at;
        let escapes = self.string()?;
        let quoted = self.text.get(start..self.at)?;
        // Escapes in a name are read, and not only passed over: half a surrogate pair is none.
        let name = match escapes {
            Escapes::None => {
                let inner = quoted.get(1..quoted.len().saturating_sub(1))?;
                Cow::Borrowed(inner)
            }
            Escapes::Some => Cow::Owned(serde_json::from_str(quoted).ok()?),
        };
        self.colon()?;
        Some(name)
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }

    /// Passes over a value.
    fn value(&mut self) -> Option<()> {
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'[' => {
                    self.skip(1);
                    self.space();
                    if self.next_is(b']') == Next::Other {
                        self.open.push(Around::Array);
                        continue;
                    }
                }
                b'{' => {
                    self.skip(1);
                    self.space();
                    if self.next_is(b'}') == Next::Other {
                        self.open.push(Around::Object);
                        self.string()?;
                        self.colon()?;
                        continue;
                    }
                }
                _ => return None,
            }
            if self.after_value()? == After::Whole {
                return Some(());
            }
        }
    }

    /// Passes over what stands after a value: the ends of what is around it, up to the next value.
    fn after_value(&mut self) -> Option<After> {
        while let Some(around) = self.open.innermost() {
            self.space();
            let next = self.peek()?;
            self.skip(1);
            match (around, next) {
                (Around::Array, b',') => {
                    self.space();
                    return Some(After::Next);
                }
                (Around::Object, b',') => {
                    self.space();
                    self.string()?;
                    self.colon()?;
                    return Some(After::Next);
                }
                (Around::Array, b']') | (Around::Object, b'}') => {
                    self.open.pop();
                }
                _ => return None,
            }
        }
        Some(After::Whole)
    }

    fn literal(&mut self, wanted: &str) -> Option<()> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.skip(wanted.len());
        rest.starts_with(wanted.as_bytes()).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.skip(1);
        }
        match self.peek()? {
            b'0' => self.skip(1),
            _ => self.digits()?,
        }
        if self.next_is(b'.') == Next::Taken {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.skip(1);
            if let Some(b'+' | b'-') = self.peek() {
                self.skip(1);
            }
            self.digits()?;
        }
        // A digit after a leading zero.
        match self.peek() {
            Some(b'0'..=b'9') => None,
            _ => Some(()),
        }
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.skip(1);
        }
        (self.at > start).then_some(())
    }

    /// Passes over a string with its quotes.
    fn string(&mut self) -> Option<Escapes> {
        self.expect(b'"')?;
        let mut escapes = Escapes::None;
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            self.skip(bytes::plain_in_json(rest));
            let byte = self.peek()?;
            self.skip(1);
            match byte {
                b'"' => return Some(escapes),
                b'\\' => {
                    escapes = Escapes::Some;
                    self.escape()?;
                }
                0..b' ' => return None,
                _ => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let byte = self.peek()?;
        self.skip(1);
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let digits = self.text.as_bytes().get(self.at..)?.first_chunk::<4>()?;
                self.skip(4);
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }
}

/// What comes after a value.
#[derive(PartialEq, Eq)]
enum After {
    /// Nothing more: the outermost value is whole.
    Whole,
    /// The next value.
    Next,
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
