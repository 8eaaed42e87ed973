//! What the bytes of a header are, told by looking at eight of them at a time.

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

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let (eights, rest) = bytes.as_chunks::<8>();
        let rest = rest
            .iter()
            .fold(SPACES, |word, byte| (word << 8) | u64::from(*byte));
        let mut high = rest;
        let mut control = control(rest);
        for eight in eights {
            let word = u64::from_le_bytes(*eight);
            high |= word;
            control |= self::control(word);
        }
        if high & HIGH != 0 {
            Self::NotAscii
        } else if control & HIGH != 0 {
            Self::Control
        } else {
            Self::Printable
        }
    }
}

/// Sets a high bit, if any byte of an ASCII word is below the space or is 0x7f. A subtraction borrows from the byte
/// above only where there is such a byte, so there is no false alarm.
const fn control(word: u64) -> u64 {
    let deletes = word ^ DELETES;
    (word.wrapping_sub(SPACES) & !word) | (deletes.wrapping_sub(ONES) & !deletes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
                    }
                }
            }
        }
        assert_eq!(Text::of(b""), Text::Printable);
    }

    proptest! {
        #[test]
        fn any_bytes_are_told(bytes in proptest::collection::vec(prop_oneof![0_u8..=255, 0x1e_u8..=0x21, 0x7d_u8..=0x82], 0..40)) {
            prop_assert_eq!(Text::of(&bytes), byte_by_byte(&bytes));
        }
    }
}
