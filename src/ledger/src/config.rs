//! Settings of the service: from flags and environment to typed values.
//!
//! Here: what the settings are and which combinations are refused. Not here: the flags themselves (`cli`) and the
//! credentials (`http::credentials`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keybrake_contract::digest::Digest;

use crate::store::{Database, InvalidUrl};

/// Port of the API unless `KEYBRAKE_LEDGER_PORT` or `--listen` says otherwise.
pub const DEFAULT_PORT: u16 = 9080;

/// Longest path of a Unix socket that is used as given. (The system's own limit is 107.)
const MAX_SOCKET_PATH: usize = 100;

/// A setting that cannot be used. One clear line; never holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// Not a port.
    #[error("KEYBRAKE_LEDGER_PORT must be a port number from 0 to 65535")]
    Port,
    /// The test clock together with a real vendor.
    #[error(
        "KEYBRAKE_TEST_CLOCK is for the sandbox: it is refused with KEYBRAKE_VENDOR=stripe unless STRIPE_UPSTREAM is \
         a loopback address"
    )]
    TestClock,
}

/// The database that a URL names, else the file in the run folder.
///
/// # Errors
/// [`InvalidUrl`]; the URL itself is not in it, since it may hold a password.
pub fn database(url: Option<&str>, run_dir: &Path) -> Result<Database, InvalidUrl> {
    match url {
        None | Some("") => Ok(Database::from(run_dir.join("keybrake.db"))),
        Some(url) => Database::parse(url),
    }
}

/// Where the API listens: the flag, else the port of the environment, else the default, on loopback.
///
/// # Errors
/// [`InvalidSetting::Port`].
pub fn listen_address(
    flag: Option<SocketAddr>,
    port: Option<&str>,
) -> Result<SocketAddr, InvalidSetting> {
    if let Some(address) = flag {
        return Ok(address);
    }
    let port = match port {
        None | Some("") => DEFAULT_PORT,
        Some(text) => text.parse().map_err(|_| InvalidSetting::Port)?,
    };
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The path at which the command socket is really made: as given, or a short one under the temporary folder when the
/// given one is too long for a socket. The short one depends on the given path alone.
#[must_use]
pub fn socket_path(given: &Path, temporary: &Path) -> PathBuf {
    let bytes = given.as_os_str().as_encoded_bytes();
    if bytes.len() <= MAX_SOCKET_PATH {
        return given.to_owned();
    }
    let mut name = Digest::of(bytes).to_string();
    name.truncate(16);
    temporary.join(format!("keybrake-{name}.sock"))
}

/// Whether the test clock may be used.
///
/// # Errors
/// [`InvalidSetting::TestClock`] when the service may be in front of the real vendor.
pub fn check_test_clock(
    clock: Option<&str>,
    vendor: Option<&str>,
    upstream: Option<&str>,
) -> Result<Option<PathBuf>, InvalidSetting> {
    let Some(path) = clock.filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    if vendor == Some("stripe") && !upstream.is_some_and(is_loopback_url) {
        return Err(InvalidSetting::TestClock);
    }
    Ok(Some(PathBuf::from(path)))
}

/// Whether the URL's host is a loopback address or `localhost`, read strictly: no user part, nothing odd.
fn is_loopback_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<axum::http::Uri>() else {
        return false;
    };
    let Some(authority) = uri.authority() else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    !authority.as_str().contains('@')
        && (host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_or_a_postgresql_database() {
        let of = |url| database(Some(url), Path::new("run")).map(|database| database.to_string());
        let scheme = || Err(InvalidUrl::Scheme);
        for (url, expected) in [
            ("sqlite:.run/keybrake.db", Ok(".run/keybrake.db".to_owned())),
            ("sqlite:///var/k.db", Ok("/var/k.db".to_owned())),
            ("", Ok("run/keybrake.db".to_owned())),
            (
                "postgres://u:p@localhost/db",
                Ok("postgres://localhost:5432/db".to_owned()),
            ),
            ("sqlite:", scheme()),
            ("sqlite::memory:", scheme()),
            ("sqlite:x?mode=ro", scheme()),
            ("mysql://h", scheme()),
            (".run/keybrake.db", scheme()),
        ] {
            assert_eq!(of(url), expected, "{url}");
        }
    }

    #[test]
    fn the_flag_wins_over_the_port() {
        let flag: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let of = |flag, port| listen_address(flag, port).map(|address| address.to_string());
        assert_eq!(of(Some(flag), Some("2")), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(of(None, Some("2")), Ok("127.0.0.1:2".to_owned()));
        assert_eq!(of(None, None), Ok("127.0.0.1:9080".to_owned()));
        assert_eq!(of(None, Some("x")), Err(InvalidSetting::Port));
        assert_eq!(of(None, Some("65536")), Err(InvalidSetting::Port));
    }

    #[test]
    fn a_long_socket_path_becomes_a_short_one() {
        let temporary = Path::new("/tmp");
        let short = Path::new(".run/ledger.sock");
        assert_eq!(socket_path(short, temporary), short);
        let long = PathBuf::from(format!("/{}/ledger.sock", "x".repeat(100)));
        let made = socket_path(&long, temporary);
        assert!(made.starts_with(temporary) && made.as_os_str().len() < 50);
        assert_eq!(made, socket_path(&long, temporary));
        assert_ne!(made, socket_path(&long.join("y"), temporary));
        let exact = PathBuf::from("x".repeat(MAX_SOCKET_PATH));
        assert_eq!(socket_path(&exact, temporary), exact);
    }

    #[test]
    fn the_test_clock_is_refused_before_a_real_vendor() {
        let refused = Err(InvalidSetting::TestClock);
        let allowed = Ok(Some(PathBuf::from("/c")));
        for (clock, vendor, upstream, expected) in [
            (None, Some("stripe"), None, Ok(None)),
            (Some("/c"), None, None, allowed.clone()),
            (Some("/c"), Some("sandbox"), None, allowed.clone()),
            (Some("/c"), Some("stripe"), None, refused.clone()),
            (
                Some("/c"),
                Some("stripe"),
                Some("https://api.stripe.com"),
                refused.clone(),
            ),
            (
                Some("/c"),
                Some("stripe"),
                Some("http://127.0.0.1.evil.example"),
                refused.clone(),
            ),
            (
                Some("/c"),
                Some("stripe"),
                Some("http://localhost@api.stripe.com"),
                refused.clone(),
            ),
            (
                Some("/c"),
                Some("stripe"),
                Some("http://127.0.0.1:12111"),
                allowed.clone(),
            ),
            (
                Some("/c"),
                Some("stripe"),
                Some("http://[::1]:12111"),
                allowed.clone(),
            ),
        ] {
            assert_eq!(
                check_test_clock(clock, vendor, upstream),
                expected,
                "{vendor:?} {upstream:?}"
            );
        }
    }
}
