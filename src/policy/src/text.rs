//! What the bytes of headers and forms are, told by looking at eight of them at a time.

/// What bytes are, as far as every rule about headers wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
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
/// What the last bytes are filled up with: nothing that is looked for.
const FILLING: u64 = eight(b'x');

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
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
pub(crate) enum Plain {
    /// A semicolon, a space or a control character.
    Found,
    /// None.
    None,
}

/// Looks for bytes that are never written plainly in a form.
pub(crate) fn has_plain(bytes: &[u8]) -> Plain {
    let (_, found) = look(bytes, |word| {
        below_space(word) | equal(word, SPACES) | equal(word, DELETES) | equal(word, SEMICOLONS)
    });
    if found & HIGH == 0 {
        Plain::None
    } else {
        Plain::Found
    }
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

    proptest! {
        #[test]
        fn any_bytes_are_told(bytes in proptest::collection::vec(prop_oneof![0_u8..=255, 0x1e_u8..=0x21, 0x7d_u8..=0x82], 0..40)) {
            prop_assert_eq!(Text::of(&bytes), byte_by_byte(&bytes));
            prop_assert_eq!(has_plain(&bytes), plain_byte_by_byte(&bytes));
        }
    }
}
