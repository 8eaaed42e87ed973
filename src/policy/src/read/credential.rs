//! The vault key in a request: where it stands, and what is presented in its place. Only the digest leaves here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keybrake_contract::digest::Digest;
use keybrake_contract::vault_key;

use crate::pack::{CredentialPlace, CredentialRules};

/// Longest `Authorization` value that is looked into.
const MAX_AUTHORIZATION: usize = 1_024;

/// Why there is no vault key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// No credential at all.
    Absent,
    /// Something that is not a vault key in the vendor's place for it.
    Malformed,
    /// What looks like a real secret of the vendor.
    RealCredential,
}

/// The digest of the vault key among these `Authorization` values.
pub(crate) fn digest<'a>(
    rules: &CredentialRules,
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Digest, NoKey> {
    let mut only = None;
    let mut count = 0_usize;
    for value in values {
        count = count.saturating_add(1);
        if looks_real(rules, value) {
            return Err(NoKey::RealCredential);
        }
        only = Some(value);
    }
    let value = match (only, count) {
        (None, _) => return Err(NoKey::Absent),
        (Some(value), 1) if value.len() <= MAX_AUTHORIZATION => value,
        _ => return Err(NoKey::Malformed),
    };
    presented(rules, value)
}

fn presented(rules: &CredentialRules, value: &[u8]) -> Result<Digest, NoKey> {
    let text = std::str::from_utf8(value).map_err(|_| NoKey::Malformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(NoKey::Malformed)?;
    let bearer =
        scheme.eq_ignore_ascii_case("bearer") && rules.places.contains(&CredentialPlace::Bearer);
    if bearer {
        return vault_key::digest(rest.as_bytes()).map_err(|_| NoKey::Malformed);
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(NoKey::Malformed);
    }
    let decoded = STANDARD.decode(rest).map_err(|_| NoKey::Malformed)?;
    if looks_real(rules, &decoded) {
        return Err(NoKey::RealCredential);
    }
    let colon = decoded
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(NoKey::Malformed)?;
    let user = decoded.get(..colon).unwrap_or_default();
    let password = decoded.get(colon.saturating_add(1)..).unwrap_or_default();
    for place in &rules.places {
        let found = match place {
            CredentialPlace::Bearer => continue,
            CredentialPlace::BasicUser if password.is_empty() => vault_key::digest(user),
            CredentialPlace::BasicUser => continue,
            CredentialPlace::BasicPassword => vault_key::digest(password),
        };
        if let Ok(digest) = found {
            return Ok(digest);
        }
    }
    Err(NoKey::Malformed)
}

/// Looks for the pack's prefixes anywhere in the first kilobyte, so that a second value behind a comma counts too.
fn looks_real(rules: &CredentialRules, value: &[u8]) -> bool {
    let head = value.get(..MAX_AUTHORIZATION).unwrap_or(value);
    rules.real_prefixes.stand_in(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::tests::{KEY, stripe};

    fn read(values: &[&str]) -> Result<Digest, NoKey> {
        digest(
            &stripe().vendors[0].pack.credential,
            values.iter().map(|value| value.as_bytes()),
        )
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_vault_key_is_taken_from_bearer_or_from_the_basic_user_name() {
        let expected = Ok(Digest::of(KEY.as_bytes()));
        for value in [
            format!("Bearer {KEY}"),
            format!("bearer {KEY}"),
            basic(&format!("{KEY}:")),
        ] {
            assert_eq!(read(&[&value]), expected, "{value}");
        }
    }

    #[test]
    fn whatever_else_is_presented_is_not_a_key() {
        let good = format!("Bearer {KEY}");
        let cases: Vec<(Vec<String>, NoKey)> = vec![
            (vec![], NoKey::Absent),
            (vec![good.clone(), good.clone()], NoKey::Malformed),
            (vec![format!("{good},{good}")], NoKey::Malformed),
            (vec![format!("{good}\0")], NoKey::Malformed),
            (vec![format!("{good} ")], NoKey::Malformed),
            (vec![format!("Bearer  {KEY}")], NoKey::Malformed),
            (vec![KEY.to_owned()], NoKey::Malformed),
            (vec![String::new()], NoKey::Malformed),
            (vec!["Bearer ".to_owned()], NoKey::Malformed),
            (vec![format!("Digest {KEY}")], NoKey::Malformed),
            (
                vec![format!("Bearer {}", "x".repeat(100_000))],
                NoKey::Malformed,
            ),
            (
                vec![format!("{}0", &good[..good.len() - 1])],
                NoKey::Malformed,
            ),
            (vec![basic(KEY)], NoKey::Malformed),
            (vec![basic(&format!("{KEY}:pw"))], NoKey::Malformed),
            (vec![basic(&format!("user:{KEY}"))], NoKey::Malformed),
            (vec!["Basic %%%".to_owned()], NoKey::Malformed),
            (
                vec!["Bearer sk_live_fake".to_owned()],
                NoKey::RealCredential,
            ),
            (vec![basic("sk_test_sandbox_x:")], NoKey::RealCredential),
            (vec![basic("rk_live_fake:")], NoKey::RealCredential),
            (
                vec![format!("{good}, Bearer sk_live_fake")],
                NoKey::RealCredential,
            ),
            (
                vec![good.clone(), "Bearer sk_live_fake".to_owned()],
                NoKey::RealCredential,
            ),
        ];
        for (values, expected) in cases {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            assert_eq!(read(&values), Err(expected), "{values:?}");
        }
    }
}
