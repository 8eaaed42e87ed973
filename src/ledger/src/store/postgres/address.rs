//! A PostgreSQL URL: what of it is understood, and how it is shown.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// For a connection to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// After so long without a word of the server the system asks whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// For sent bytes to be acknowledged.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// Whether the connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// In the clear: to this machine alone, or because `sslmode=disable` says so.
    Plain,
    /// TLS. The server's certificate and name are always checked: by these roots, else by the system's.
    Tls {
        /// A file of certificates in PEM.
        roots: Option<PathBuf>,
    },
}

/// Where a PostgreSQL database is, and how to get in. Never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) config: Config,
    pub(super) encryption: Encryption,
}

impl Address {
    /// From a URL. `sslmode` is `disable`, `require`, `verify-ca` or `verify-full`; the last three are the same here, and the
    /// default for every host that is not this machine. Several hosts may be given: the first that takes writes is used.
    ///
    /// # Errors
    /// What is wrong, without a word of the URL itself.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = None;
        let mut roots = None;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(decoded(value)),
                _ => rest.push(pair),
            }
        }
        let url = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        let mut config: Config = url.parse().map_err(|_| "it cannot be read")?;
        if config.get_hosts().is_empty() {
            return Err("it names no host");
        }
        let is_local = config.get_hosts().iter().all(is_this_machine);
        let encryption = match mode {
            Some("disable") => Encryption::Plain,
            None if is_local && roots.is_none() => Encryption::Plain,
            None | Some("require" | "verify-ca" | "verify-full") => Encryption::Tls { roots },
            Some("prefer" | "allow") => {
                return Err(
                    "sslmode prefer and allow let anybody in between turn encryption off: say disable or verify-full",
                );
            }
            Some(_) => return Err("sslmode must be disable, require, verify-ca or verify-full"),
        };
        config
            .ssl_mode(match encryption {
                Encryption::Plain => SslMode::Disable,
                Encryption::Tls { .. } => SslMode::Require,
            })
            .connect_timeout(CONNECT_WITHIN)
            .keepalives_idle(KEEPALIVE)
            .tcp_user_timeout(ACKNOWLEDGED_WITHIN);
        if config.get_application_name().is_none() {
            config.application_name("keybrake");
        }
        Ok(Self { config, encryption })
    }

    /// The same database for a writer: of several hosts only one that takes writes will do.
    pub(super) fn for_writing(&self) -> Config {
        let mut config = self.config.clone();
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config
    }

    /// The same database for a reader. Of several hosts again the one that takes writes, which no other one is ahead of; a single
    /// one may be a standby.
    pub(super) fn for_reading(&self) -> Config {
        if self.config.get_hosts().len() > 1 {
            self.for_writing()
        } else {
            self.config.clone()
        }
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}

fn decoded(value: &str) -> PathBuf {
    // Form encoding would take a plus for a space; a URL does not.
    let pair = format!("p={}", value.replace('+', "%2B"));
    let decoded = form_urlencoded::parse(pair.as_bytes()).next();
    PathBuf::from(decoded.map_or_else(String::new, |(_, value)| value.into_owned()))
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        let hosts: Vec<String> = self
            .config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        let database = self.config.get_dbname().unwrap_or_default();
        write!(formatter, "postgres://{}/{database}", hosts.join(","))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "not-a-real-password";

    #[test]
    fn encryption_is_left_off_only_on_this_machine_or_when_it_is_said() {
        let roots = |path: &str| Encryption::Tls {
            roots: Some(PathBuf::from(path)),
        };
        let checked = Encryption::Tls { roots: None };
        for (rest, expected) in [
            ("127.0.0.1/k", Encryption::Plain),
            ("localhost:5433/k", Encryption::Plain),
            ("[::1]/k", Encryption::Plain),
            ("%2Frun%2Fpostgresql/k", Encryption::Plain),
            ("db.internal/k", checked.clone()),
            ("localhost,db.internal/k", checked.clone()),
            ("db.internal/k?sslmode=disable", Encryption::Plain),
            ("localhost/k?sslmode=require", checked.clone()),
            ("db/k?sslmode=verify-ca", checked.clone()),
            ("db/k?sslmode=verify-full", checked),
            ("localhost/k?sslrootcert=/a%20b+c.pem", roots("/a b+c.pem")),
        ] {
            let url = format!("postgres://u:{PASSWORD}@{rest}");
            let address = Address::parse(&url).map(|address| address.encryption);
            assert_eq!(address, Ok(expected), "{rest}");
        }
    }

    #[test]
    fn neither_a_wrong_url_nor_a_right_one_shows_its_password() {
        for rest in [
            "db/k?sslmode=prefer",
            "db/k?sslmode=sometimes",
            "db:port/k",
            "/k",
            "db/k?surprise=1",
        ] {
            let error = Address::parse(&format!("postgres://u:{PASSWORD}@{rest}"));
            assert!(!error.unwrap_err().contains(PASSWORD), "{rest}");
        }
        let url = format!("postgres://u:{PASSWORD}@a:1,b:2/k?options=-csearch_path%3Dk");
        let address = Address::parse(&url).unwrap();
        assert_eq!(address.to_string(), "postgres://a:1,b:2/k");
        assert!(!format!("{address:?} {:?}", address.config).contains(PASSWORD));
    }
}
