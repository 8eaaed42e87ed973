//! The three service credentials: admin, audit, internal. Who may do what with which.
//!
//! Here: reading them, holding their digests, comparing. Not here: vault keys on the vendor path (`engine`). The text
//! of a credential is dropped as soon as its digest is taken, so that none can reach a log, an error or a dump.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use keybrake_contract::INTERNAL_KEY_HEADER;
use keybrake_contract::digest::Digest;
use keybrake_contract::vault_key;
use subtle::ConstantTimeEq as _;

use crate::http::problem::{Kind, Problem};
use crate::model::SecretText;

/// Fewest characters in a credential.
const MIN_CHARACTERS: usize = 16;

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Manages keys.
    Admin,
    /// Reads the audit.
    Audit,
    /// Sends commands: the filter, through Envoy.
    Internal,
}

impl Role {
    const ALL: [Self; 3] = [Self::Admin, Self::Audit, Self::Internal];

    /// The environment variable that holds the credential; the same with `_FILE` names a file that does.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Admin => "KEYBRAKE_ADMIN_KEY",
            Self::Audit => "KEYBRAKE_AUDIT_KEY",
            Self::Internal => "KEYBRAKE_INTERNAL_KEY",
        }
    }
}

/// Where a credential comes from.
enum Source {
    Environment(Digest),
    File(PathBuf),
}

/// What counts as the credential of one role: one, or two while the one takes the place of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accepted {
    first: Digest,
    second: Option<Digest>,
}

impl Accepted {
    fn digests(&self) -> impl Iterator<Item = &Digest> {
        [Some(&self.first), self.second.as_ref()]
            .into_iter()
            .flatten()
    }
}

/// The credentials in force.
pub struct Credentials {
    sources: [Source; 3],
    accepted: RwLock<[Accepted; 3]>,
}

/// Why credentials cannot be used. Names variables and files, never what is in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// Neither form is set.
    #[error("{0} is not set (nor {0}_FILE)")]
    Missing(&'static str),
    /// Both forms are set.
    #[error("{0} and {0}_FILE are both set: give one of them")]
    Both(&'static str),
    /// Too short, or with characters that no header carries.
    #[error(
        "{0} must have at least {MIN_CHARACTERS} characters, printable ASCII without spaces, not beginning with #"
    )]
    Unfit(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// Its path.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// More lines than an old and a new credential.
    #[error(
        "{0} must have one credential, or two, one a line, while one takes the place of the other"
    )]
    TooMany(String),
    /// Two roles share one.
    #[error("{0} and {1} must differ")]
    Same(&'static str, &'static str),
}

impl Credentials {
    /// Reads all three, by a function that looks up environment variables.
    ///
    /// # Errors
    /// [`InvalidCredentials`].
    pub fn from_environment(
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidCredentials> {
        let read = |role: Role| source(role, &lookup);
        let sources = [
            read(Role::Admin)?,
            read(Role::Audit)?,
            read(Role::Internal)?,
        ];
        let accepted = RwLock::new(accepted(&sources)?);
        Ok(Self { sources, accepted })
    }

    /// Reads the files again. The old credentials stay in force when the new ones cannot be used.
    ///
    /// # Errors
    /// [`InvalidCredentials`].
    pub fn reload(&self) -> Result<Reload, InvalidCredentials> {
        let fresh = accepted(&self.sources)?;
        let mut held = self
            .accepted
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *held == fresh {
            return Ok(Reload::Unchanged);
        }
        *held = fresh;
        Ok(Reload::Changed)
    }

    /// The variables of the roles for which an old and a new credential count.
    #[must_use]
    pub fn in_transition(&self) -> Vec<&'static str> {
        let held = *self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        let roles = Role::ALL.into_iter().zip(&held);
        roles
            .filter(|(_, accepted)| accepted.second.is_some())
            .map(|(role, _)| role.variable())
            .collect()
    }

    /// Whether any credential can change without a restart.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.sources
            .iter()
            .any(|source| matches!(source, Source::File(_)))
    }

    /// The role of a presented credential. Everything that counts is compared, each in constant time.
    #[must_use]
    pub fn role_of(&self, presented: &[u8]) -> Option<Role> {
        let presented = Digest::of(presented);
        let held = *self.accepted.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for (role, accepted) in Role::ALL.into_iter().zip(&held) {
            for digest in accepted.digests() {
                if bool::from(digest.as_bytes().ct_eq(presented.as_bytes())) {
                    found = Some(role);
                }
            }
        }
        found
    }

    /// Lets a request of this role pass.
    ///
    /// # Errors
    /// 401 without a known credential, 403 with one of another role or with a vault key.
    pub fn authorize(&self, headers: &HeaderMap, wanted: Role) -> Result<(), Problem> {
        let unauthenticated = |detail: &str| Err(Problem::new(Kind::Unauthenticated, detail));
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return unauthenticated("send one header `Authorization: Bearer <key>`");
        };
        let Some(presented) = bearer(value.as_bytes()) else {
            return unauthenticated("the Authorization header must be `Bearer <key>`");
        };
        if vault_key::digest(presented).is_ok() {
            return Err(Problem::new(
                Kind::Forbidden,
                "vault keys have no access to this API",
            ));
        }
        match self.role_of(presented) {
            Some(role) if role == wanted => Ok(()),
            Some(Role::Admin | Role::Audit) => Err(Problem::new(
                Kind::Forbidden,
                format!("this needs the key in {}", wanted.variable()),
            )),
            Some(Role::Internal) | None => unauthenticated("the key is not known"),
        }
    }

    /// Whether the request comes from the filter.
    #[must_use]
    pub fn is_internal(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(INTERNAL_KEY_HEADER).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => self.role_of(value.as_bytes()) == Some(Role::Internal),
            _ => false,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// What reading the files again brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The same.
    Unchanged,
    /// Other credentials are in force now.
    Changed,
}

/// The credential of `Bearer <credential>`, the scheme in either case.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    let credential = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !credential.is_empty()).then_some(credential)
}

fn source(
    role: Role,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Source, InvalidCredentials> {
    let variable = role.variable();
    let file = lookup(&format!("{variable}_FILE")).filter(|path| !path.is_empty());
    let text = lookup(variable)
        .filter(|text| !text.is_empty())
        .map(SecretText::new);
    match (text, file) {
        (Some(_), Some(_)) => Err(InvalidCredentials::Both(variable)),
        (None, None) => Err(InvalidCredentials::Missing(variable)),
        (Some(text), None) => Ok(Source::Environment(digest(text.expose(), variable)?)),
        (None, Some(path)) => Ok(Source::File(PathBuf::from(path))),
    }
}

fn accepted(sources: &[Source; 3]) -> Result<[Accepted; 3], InvalidCredentials> {
    let read = |source: &Source| match source {
        Source::Environment(digest) => Ok(Accepted {
            first: *digest,
            second: None,
        }),
        Source::File(path) => of_lines(&read_file(path)?, &path.display().to_string()),
    };
    let [admin, audit, internal] = sources;
    let (admin, audit, internal) = (read(admin)?, read(audit)?, read(internal)?);
    let pairs = [
        (admin, audit, Role::Admin, Role::Audit),
        (admin, internal, Role::Admin, Role::Internal),
        (audit, internal, Role::Audit, Role::Internal),
    ];
    let shares_one = |(one, other, ..): &(Accepted, Accepted, Role, Role)| {
        one.digests()
            .any(|digest| other.digests().any(|same| same == digest))
    };
    match pairs.into_iter().find(shares_one) {
        Some((_, _, one, other)) => Err(InvalidCredentials::Same(one.variable(), other.variable())),
        None => Ok([admin, audit, internal]),
    }
}

/// A file's credentials, one a line; empty lines are none.
fn of_lines(text: &SecretText, origin: &str) -> Result<Accepted, InvalidCredentials> {
    let mut lines = text
        .expose()
        .lines()
        .filter(|line| !line.trim_ascii().is_empty());
    let first = digest(lines.next().unwrap_or_default(), origin)?;
    let second = lines.next().map(|line| digest(line, origin)).transpose()?;
    match lines.next() {
        Some(_) => Err(InvalidCredentials::TooMany(origin.to_owned())),
        None => Ok(Accepted { first, second }),
    }
}

fn read_file(path: &Path) -> Result<SecretText, InvalidCredentials> {
    let text = std::fs::read_to_string(path).map_err(|error| InvalidCredentials::Unreadable {
        path: path.display().to_string(),
        cause: error.to_string(),
    })?;
    Ok(SecretText::new(text))
}

fn digest(text: &str, origin: &str) -> Result<Digest, InvalidCredentials> {
    let text = text.trim_ascii();
    let is_fit = text.len() >= MIN_CHARACTERS
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        // A comment in a file of credentials must not become one.
        && !text.starts_with('#');
    if !is_fit {
        return Err(InvalidCredentials::Unfit(origin.to_owned()));
    }
    Ok(Digest::of(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "sandbox-admin-key-1";
    const AUDIT: &str = "sandbox-audit-key-1";
    const INTERNAL: &str = "sandbox-internal-key-1";

    fn lookup<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        Credentials::from_environment(lookup(pairs))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (
                &[],
                "KEYBRAKE_ADMIN_KEY is not set (nor KEYBRAKE_ADMIN_KEY_FILE)",
            ),
            (
                &[
                    ("KEYBRAKE_ADMIN_KEY", ADMIN),
                    ("KEYBRAKE_ADMIN_KEY_FILE", "/x"),
                ],
                "KEYBRAKE_ADMIN_KEY and KEYBRAKE_ADMIN_KEY_FILE are both set: give one of them",
            ),
            (
                &[("KEYBRAKE_ADMIN_KEY", "short-one")],
                "KEYBRAKE_ADMIN_KEY must have at least 16 characters, printable ASCII without spaces, not beginning with #",
            ),
            (
                &[
                    ("KEYBRAKE_ADMIN_KEY", ADMIN),
                    ("KEYBRAKE_AUDIT_KEY", AUDIT),
                    ("KEYBRAKE_INTERNAL_KEY", AUDIT),
                ],
                "KEYBRAKE_AUDIT_KEY and KEYBRAKE_INTERNAL_KEY must differ",
            ),
            (
                &[
                    ("KEYBRAKE_ADMIN_KEY", ADMIN),
                    ("KEYBRAKE_AUDIT_KEY", AUDIT),
                    ("KEYBRAKE_INTERNAL_KEY_FILE", "/nowhere/at/all"),
                ],
                "cannot read /nowhere/at/all: No such file or directory (os error 2)",
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(error(pairs), expected);
        }
    }

    #[test]
    fn a_file_that_changed_counts_and_a_bad_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin");
        std::fs::write(&path, format!("{ADMIN}\n")).unwrap();
        let path_text = path.display().to_string();
        let credentials = Credentials::from_environment(lookup(&[
            ("KEYBRAKE_ADMIN_KEY_FILE", &path_text),
            ("KEYBRAKE_AUDIT_KEY", AUDIT),
            ("KEYBRAKE_INTERNAL_KEY", INTERNAL),
        ]))
        .unwrap();
        assert_eq!(credentials.role_of(ADMIN.as_bytes()), Some(Role::Admin));
        assert_eq!(credentials.reload(), Ok(Reload::Unchanged));

        std::fs::write(&path, "sandbox-admin-key-2").unwrap();
        assert_eq!(credentials.reload(), Ok(Reload::Changed));
        assert_eq!(credentials.role_of(ADMIN.as_bytes()), None);
        assert_eq!(
            credentials.role_of(b"sandbox-admin-key-2"),
            Some(Role::Admin)
        );

        for bad in ["", "short", AUDIT] {
            std::fs::write(&path, bad).unwrap();
            assert!(credentials.reload().is_err(), "{bad}");
            assert_eq!(
                credentials.role_of(b"sandbox-admin-key-2"),
                Some(Role::Admin)
            );
        }
    }

    #[test]
    fn two_in_a_file_count_both_and_never_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("internal");
        let path_text = path.display().to_string();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Credentials::from_environment(lookup(&[
                ("KEYBRAKE_ADMIN_KEY", ADMIN),
                ("KEYBRAKE_AUDIT_KEY", AUDIT),
                ("KEYBRAKE_INTERNAL_KEY_FILE", &path_text),
            ]))
        };
        let other = "sandbox-internal-key-2";
        for text in [
            format!("{INTERNAL}\n{other}\n"),
            format!("\n {other} \r\n\n{INTERNAL}"),
        ] {
            let both = read(&text).unwrap();
            for key in [INTERNAL, other] {
                assert_eq!(both.role_of(key.as_bytes()), Some(Role::Internal), "{text}");
            }
            assert_eq!(both.role_of(text.as_bytes()), None);
            assert_eq!(both.in_transition(), ["KEYBRAKE_INTERNAL_KEY"]);
            assert_eq!(both.role_of(ADMIN.as_bytes()), Some(Role::Admin));
        }
        let same = "KEYBRAKE_ADMIN_KEY and KEYBRAKE_INTERNAL_KEY must differ";
        #[rustfmt::skip]
        let wrong = [
            (format!("{INTERNAL}\n{other}\nsandbox-internal-key-3\n"),
                format!("{path_text} must have one credential, or two, one a line, while one takes the place of the other")),
            (format!("{INTERNAL}\n#rotated-2026-11-26\n"),
                format!("{path_text} must have at least 16 characters, printable ASCII without spaces, not beginning with #")),
            (format!("{INTERNAL}\nshort\n"),
                format!("{path_text} must have at least 16 characters, printable ASCII without spaces, not beginning with #")),
            (format!("{INTERNAL}\n{ADMIN}\n"), same.to_owned()),
        ];
        for (text, expected) in wrong {
            assert_eq!(read(&text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_bearer_scheme_is_read_in_either_case_and_nothing_else() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic abc", None),
            ("Bearerabc", None),
        ] {
            assert_eq!(
                bearer(value.as_bytes()),
                expected.map(str::as_bytes),
                "{value}"
            );
        }
    }
}
