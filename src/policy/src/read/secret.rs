//! Finding a vault key where none may be. What is kept, sent or logged is searched before it is.

use keybrake_contract::vault_key::PREFIX;

/// Hexadecimal digits after the prefix that make it a key, or most of one.
const HEX_DIGITS: usize = 16;

/// Whether the bytes hold the text of a vault key, or enough of one.
pub(crate) fn holds_vault_key(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // Looks at the byte where the prefix would end, and leaps as far as that byte allows: most are in no prefix.
    while let Some(last) = rest.get(PREFIX.len().saturating_sub(1)) {
        let found = *last == b'_' && rest.starts_with(PREFIX.as_bytes());
        let leap = if found { PREFIX.len() } else { leap(*last) };
        rest = rest.get(leap..).unwrap_or_default();
        let digits = rest.iter().take(HEX_DIGITS);
        if found && digits.filter(|byte| byte.is_ascii_hexdigit()).count() == HEX_DIGITS {
            return true;
        }
    }
    false
}

/// How far the prefix can be moved on when this byte stands where it would end: to where this byte stands in it before
/// its end, or past it.
const fn leap(last: u8) -> usize {
    match last {
        b'y' => 1,
        b'e' => 2,
        b'k' => 3,
        b'_' => 4,
        b't' => 5,
        b'l' => 6,
        b'u' => 7,
        b'a' => 8,
        b'v' => 9,
        _ => PREFIX.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_key_is_found_anywhere_and_its_bare_name_is_not_one() {
        let key = keybrake_contract::vault_key::compose([7; 24]);
        assert!(holds_vault_key(key.as_bytes()));
        assert!(holds_vault_key(
            format!("note vault_key_id=1 {key}").as_bytes()
        ));
        for innocent in [
            "",
            "vault_key_",
            "vault_key_label",
            "vault_key_abc",
            "VAULT_KEY_0123456789abcdef0",
        ] {
            assert!(!holds_vault_key(innocent.as_bytes()), "{innocent}");
        }
    }

    #[test]
    fn leaps_fit_the_prefix() {
        for byte in 0..=u8::MAX {
            let before_the_end = &PREFIX.as_bytes()[..PREFIX.len() - 1];
            let expected = before_the_end
                .iter()
                .rev()
                .position(|have| *have == byte)
                .map_or(PREFIX.len(), |distance| distance + 1);
            assert_eq!(leap(byte), expected, "{byte}");
        }
    }

    #[test]
    fn no_leap_passes_over_a_key() {
        let key = keybrake_contract::vault_key::compose([0x5a; 24]);
        for before in [
            "",
            "v",
            "vault_",
            "vault_key",
            "vault_key_",
            "vault_key_vault_key_",
            "y",
            "_k",
            "aaaaaaaaa",
        ] {
            for length in 0..12 {
                let text = format!("{}{before}{key}", "x".repeat(length));
                assert!(holds_vault_key(text.as_bytes()), "{text}");
            }
        }
        assert!(
            !holds_vault_key(b"vault_key_5a5a5a5a5a5a5a5"),
            "one digit is missing"
        );
    }
}
