//! Finding a vault key where none may be. What is kept, sent or logged is searched before it is.

use keybrake_contract::vault_key::PREFIX;

/// Hexadecimal digits after the prefix that make it a key, or most of one.
const HEX_DIGITS: usize = 16;

/// Whether the bytes hold the text of a vault key, or enough of one.
pub(crate) fn holds_vault_key(bytes: &[u8]) -> bool {
    let prefix = PREFIX.as_bytes();
    let mut rest = bytes;
    while let Some(position) = find(rest, prefix) {
        rest = rest
            .get(position.saturating_add(prefix.len())..)
            .unwrap_or_default();
        let digits = rest
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .take(HEX_DIGITS)
            .count();
        if digits == HEX_DIGITS {
            return true;
        }
    }
    false
}

/// Where `needle` first stands in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0_usize;
    while let Some(rest) = bytes.get(from..) {
        let position = from.saturating_add(rest.iter().position(|byte| byte == first)?);
        if bytes
            .get(position..)
            .is_some_and(|tail| tail.starts_with(needle))
        {
            return Some(position);
        }
        from = position.saturating_add(1);
    }
    None
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
}
