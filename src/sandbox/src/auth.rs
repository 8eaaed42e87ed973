//! Who calls: the accepted secret, and what is remembered of anything else.
//!
//! Of a credential that is not accepted only the SHA-256 and the first characters are kept, never the whole text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::answer::ApiError;

const PREFIX_CHARS: usize = 12;

/// The accepted secret; several while it is being rolled, when a vendor takes the old one and the new one.
pub struct Secret {
    accepted: Vec<(String, Credential)>,
}

/// What may be shown of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Credential {
    /// SHA-256 of what was presented, in hex.
    pub sha256: String,
    /// Its first characters.
    pub prefix: String,
}

impl Credential {
    fn of(presented: &[u8]) -> Self {
        let prefix = String::from_utf8_lossy(presented)
            .chars()
            .take(PREFIX_CHARS)
            .collect();
        Self {
            sha256: hex::encode(Sha256::digest(presented)),
            prefix,
        }
    }
}

/// How a request's credentials were judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// An accepted secret, once.
    Accepted(Credential),
    /// No credential at all.
    Missing,
    /// Something else, or more than one.
    Rejected(Vec<Credential>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Each line of this text as an accepted secret.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let accepted = text
            .lines()
            .map(|line| (line.to_owned(), Credential::of(line.as_bytes())))
            .collect();
        Self { accepted }
    }

    /// Judges all `Authorization` headers of a request. Only `Bearer` is accepted: the official SDKs and the gate send no
    /// other. Of a `Basic` header the user name is what was presented.
    #[must_use]
    pub fn judge(&self, headers: &HeaderMap) -> Judged {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(first) = values.next() else {
            return Judged::Missing;
        };
        let bearer = first.as_bytes().strip_prefix(b"Bearer ");
        let known = self
            .accepted
            .iter()
            .find(|(text, _)| bearer == Some(text.as_bytes()));
        if let Some((_, seen)) = known
            && values.next().is_none()
        {
            return Judged::Accepted(seen.clone());
        }
        let all = headers.get_all(AUTHORIZATION).iter();
        Judged::Rejected(
            all.map(|value| Credential::of(&presented(value.as_bytes())))
                .collect(),
        )
    }
}

fn presented(header: &[u8]) -> Vec<u8> {
    let (scheme, rest) = match header.iter().position(|b| *b == b' ') {
        Some(space) => (
            header.get(..space).unwrap_or_default(),
            header.get(space..).unwrap_or_default().trim_ascii(),
        ),
        None => return header.to_vec(),
    };
    if scheme.eq_ignore_ascii_case(b"basic")
        && let Ok(pair) = STANDARD.decode(rest)
    {
        return pair
            .split(|b| *b == b':')
            .next()
            .unwrap_or_default()
            .to_vec();
    }
    rest.to_vec()
}

/// The 401 of a judged request.
#[must_use]
pub fn refusal(judged: &Judged) -> Option<ApiError> {
    match judged {
        Judged::Accepted(_) => None,
        Judged::Missing => Some(ApiError::new(
            401,
            "invalid_request_error",
            "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer \
             auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        )),
        Judged::Rejected(seen) => {
            let prefix = seen.first().map(|c| c.prefix.as_str()).unwrap_or_default();
            Some(ApiError::new(
                401,
                "invalid_request_error",
                format!("Invalid API Key provided: {prefix}****"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(values: &[&str]) -> Judged {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        Secret::new("sk_test_sandbox_one").judge(&headers)
    }

    #[test]
    fn only_the_one_bearer_secret_is_accepted() {
        assert!(matches!(
            judge(&["Bearer sk_test_sandbox_one"]),
            Judged::Accepted(_)
        ));
        assert_eq!(judge(&[]), Judged::Missing);
        let basic = format!("Basic {}", STANDARD.encode("sk_test_sandbox_one:"));
        for values in [
            &["Bearer sk_test_sandbox_on"][..],
            &["bearer sk_test_sandbox_one"],
            &["sk_test_sandbox_one"],
            &[basic.as_str()],
            &["Bearer sk_test_sandbox_one", "Bearer sk_test_sandbox_one"],
        ] {
            assert!(matches!(judge(values), Judged::Rejected(_)), "{values:?}");
        }
    }

    #[test]
    fn while_a_secret_is_rolled_the_old_and_the_new_are_accepted() {
        let rolling = Secret::new("sk_test_sandbox_old\nsk_test_sandbox_new");
        for (presented, accepted) in [
            ("Bearer sk_test_sandbox_old", true),
            ("Bearer sk_test_sandbox_new", true),
            ("Bearer sk_test_sandbox_", false),
            ("Bearer ", false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, presented.parse().unwrap())]);
            let judged = rolling.judge(&headers);
            assert_eq!(
                matches!(judged, Judged::Accepted(_)),
                accepted,
                "{presented}"
            );
        }
    }

    #[test]
    fn a_leaked_key_is_known_by_its_digest_in_either_scheme() {
        let wanted = Judged::Rejected(vec![Credential {
            sha256: hex::encode(Sha256::digest("vault_key_abcdefgh")),
            prefix: "vault_key_ab".to_owned(),
        }]);
        assert_eq!(judge(&["Bearer vault_key_abcdefgh"]), wanted);
        assert_eq!(
            judge(&[&format!("Basic {}", STANDARD.encode("vault_key_abcdefgh:"))]),
            wanted
        );
    }
}
