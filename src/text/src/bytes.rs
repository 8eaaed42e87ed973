//! What the bytes of headers, forms and JSON are, told by looking at eight of them at a time.

/// What bytes are, as far as every rule about headers wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// ASCII from the space to `~`, or nothing.
    Printable,
    /// ASCII with a control character.
    Control,
    /// A byte above 0x7f. Whether it is UTF-8, and what else is there, is not told.
    NotAscii,
}

/// Eight bytes of this value.
const fn eight(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

const ONES: u64 = eight(1);
const HIGH: u64 = eight(0x80);
const SPACES: u64 = eight(b' ');
const DELETES: u64 = eight(0x7f);
const SEMICOLONS: u64 = eight(b';');
const QUOTES: u64 = eight(b'"');
const BACKSLASHES: u64 = eight(b'\\');
/// What the last bytes are filled up with: nothing that is looked for.
const FILLING: u64 = eight(b'x');

impl Text {
    /// What these bytes are.
    pub fn of(bytes: &[u8]) -> Self {
        let (all, control) = look(bytes, |word| below_space(word) | equal(word, DELETES));
        if all & HIGH != 0 {
            Self::NotAscii
        } else if control & HIGH != 0 {
            Self::Control
        } else {
            Self::Printable
        }
    }
}

/// Whether a form has a byte that is never written plainly in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// A semicolon, a space or a control character.
    Found,
    /// None.
    None,
}

/// Looks for bytes that are never written plainly in a form.
pub fn has_plain(bytes: &[u8]) -> Plain {
    let (_, found) = look(bytes, |word| {
        below_space(word) | equal(word, SPACES) | equal(word, DELETES) | equal(word, SEMICOLONS)
    });
    if found & HIGH == 0 {
        Plain::None
    } else {
        Plain::Found
    }
}

/// How many bytes at the beginning are spaces; at the end of the bytes fewer may be told.
pub fn leading_spaces(bytes: &[u8]) -> usize {
    let mut count = 0_usize;
    for eight in bytes.as_chunks::<8>().0 {
        let spaces = first_bit(u64::from_le_bytes(*eight) ^ SPACES);
        count = count.saturating_add(spaces);
        if spaces < 8 {
            break;
        }
    }
    count
}

/// How many bytes at the beginning are part of a JSON string and stand for themselves: neither a quote nor a backslash
/// nor below the space. At the end of the bytes fewer may be told.
pub fn plain_in_json(bytes: &[u8]) -> usize {
    let mut count = 0_usize;
    // Most texts end within sixteen bytes, so that this is mostly one step.
    for sixteen in bytes.as_chunks::<16>().0 {
        let [first, second] = match sixteen.as_chunks::<8>().0 {
            [first, second] => [not_plain(*first), not_plain(*second)],
            _ => return count,
        };
        let plain = if first == 0 {
            first_bit(second).saturating_add(8)
        } else {
            first_bit(first)
        };
        count = count.saturating_add(plain);
        if plain < 16 {
            break;
        }
    }
    count
}

/// The first high bit that is set is of the first byte that does not stand for itself: what a subtraction borrows comes
/// from a byte below, whose own bit is set then.
const fn not_plain(eight: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(eight);
    (below_space(word) | equal(word, QUOTES) | equal(word, BACKSLASHES)) & HIGH
}

/// Which byte the first bit is in; 8: there is none.
const fn first_bit(word: u64) -> usize {
    (word.trailing_zeros() / u8::BITS) as usize
}

/// All words together, and all that the test says of them together.
fn look(bytes: &[u8], test: impl Fn(u64) -> u64) -> (u64, u64) {
    let (eights, rest) = bytes.as_chunks::<8>();
    let rest = rest
        .iter()
        .fold(FILLING, |word, byte| (word << 8) | u64::from(*byte));
    let mut all = rest;
    let mut found = test(rest);
    for eight in eights {
        let word = u64::from_le_bytes(*eight);
        all |= word;
        found |= test(word);
    }
    (all, found)
}

/// Sets a high bit, if any byte is below the space. (A subtraction borrows from the byte above only where there is
/// such a byte, so there is no false alarm.)
const fn below_space(word: u64) -> u64 {
    word.wrapping_sub(SPACES) & !word
}

/// Sets a high bit, if any byte is the one that `eights` repeats.
const fn equal(word: u64, eights: u64) -> u64 {
    let difference = word ^ eights;
    difference.wrapping_sub(ONES) & !difference
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain_byte_by_byte(bytes: &[u8]) -> Plain {
        let plain = |byte: &u8| matches!(byte, b';' | 0..=b' ' | 0x7f);
        if bytes.iter().any(plain) {
            Plain::Found
        } else {
            Plain::None
        }
    }

    fn byte_by_byte(bytes: &[u8]) -> Text {
        if !bytes.is_ascii() {
            Text::NotAscii
        } else if bytes.iter().any(u8::is_ascii_control) {
            Text::Control
        } else {
            Text::Printable
        }
    }

    #[test]
    fn every_byte_at_every_position_is_told() {
        for length in 1..20 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    for around in [b' ', b'~', b'a'] {
                        let mut bytes = vec![around; length];
                        bytes[position] = byte;
                        assert_eq!(Text::of(&bytes), byte_by_byte(&bytes), "{bytes:?}");
                        assert_eq!(has_plain(&bytes), plain_byte_by_byte(&bytes), "{bytes:?}");
                    }
                }
            }
        }
        assert_eq!(Text::of(b""), Text::Printable);
        assert_eq!(has_plain(b""), Plain::None);
    }

    #[test]
    fn leading_bytes_are_counted_up_to_the_first_that_is_told() {
        for length in 0..40 {
            for position in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'x'; length];
                    bytes[position] = byte;
                    let ends = matches!(byte, b'"' | b'\\' | 0..b' ');
                    let told = plain_in_json(&bytes);
                    let expected = if ends { position } else { length };
                    assert!(
                        told <= expected && (told == expected || told + 16 > length),
                        "{bytes:?}"
                    );
                    let mut bytes = vec![b' '; length];
                    bytes[position] = byte;
                    let told = leading_spaces(&bytes);
                    let expected = if byte == b' ' { length } else { position };
                    assert!(
                        told <= expected && (told == expected || told + 8 > length),
                        "{bytes:?}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_told(bytes in proptest::collection::vec(prop_oneof![0_u8..=255, 0x1e_u8..=0x21, 0x7d_u8..=0x82], 0..40)) {
            prop_assert_eq!(Text::of(&bytes), byte_by_byte(&bytes));
            prop_assert_eq!(has_plain(&bytes), plain_byte_by_byte(&bytes));
        }
    }
}
