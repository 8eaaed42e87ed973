//! The command line and the environment: read here and nowhere else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

use crate::auth::Secret;

const EXAMPLES: &str = "\
Examples:
  keybrake-sandbox --secret-file .run/stripe_secret --cert-dir .run
  keybrake-sandbox --secret-file secret --cert-dir /tmp/ca --listen 127.0.0.1:0 --control 127.0.0.1:0
  keybrake-sandbox --secret-file secret --plain --listen 127.0.0.1:0
  curl --cacert .run/ca.pem -H \"Authorization: Bearer $(cat .run/stripe_secret)\" \\
       https://localhost:12111/v1/charges -d amount=999 -d currency=usd -d customer=cus_aaa
  curl http://127.0.0.1:12112/counts
  curl http://127.0.0.1:12112/faults -H 'content-type: application/json' \\
       -d '{\"match\":{\"path\":\"/v1/charges\"},\"fault\":{\"kind\":\"reset_before_answer\"}}'

When it listens it prints one line: {\"ready\":true,\"listen\":…,\"control\":…,\"ca\":…}";

/// A Stripe-shaped vendor to try things on. No money moves anywhere.
#[derive(Debug, Parser)]
#[command(name = "keybrake-sandbox", version, after_help = EXAMPLES)]
pub struct Args {
    /// Where the vendor listens; port 0 takes a free one [default: 127.0.0.1 and the port below]
    #[arg(long, env = "KEYBRAKE_SANDBOX_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// The vendor's port on 127.0.0.1 when --listen is not given
    #[arg(long, env = "KEYBRAKE_SANDBOX_PORT", default_value_t = 12111)]
    pub port: u16,

    /// Where the control API listens, loopback only; port 0 takes a free one [default: 127.0.0.1 and the port below]
    #[arg(long, env = "KEYBRAKE_SANDBOX_CONTROL", value_name = "ADDRESS:PORT", value_parser = loopback)]
    pub control: Option<SocketAddr>,

    /// The control API's port on 127.0.0.1 when --control is not given
    #[arg(long, env = "KEYBRAKE_SANDBOX_CONTROL_PORT", default_value_t = 12112)]
    pub control_port: u16,

    /// File with the only secret that is accepted; with several, one a line, while a secret is being rolled
    #[arg(long, env = "KEYBRAKE_SANDBOX_SECRET_FILE", value_name = "FILE")]
    pub secret_file: PathBuf,

    /// Folder to write ca.pem to, the certificate to trust
    #[arg(
        long,
        env = "KEYBRAKE_SANDBOX_CERT_DIR",
        value_name = "DIR",
        required_unless_present = "plain"
    )]
    pub cert_dir: Option<PathBuf>,

    /// One more name or address for the server certificate; may be repeated (comma-separated in the variable)
    #[arg(
        long,
        env = "KEYBRAKE_SANDBOX_TLS_NAME",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub tls_name: Vec<String>,

    /// File with milliseconds to add to the clock, read again at each use; no file means 0
    #[arg(long, env = "KEYBRAKE_TEST_CLOCK", value_name = "FILE")]
    pub clock: Option<PathBuf>,

    /// File that keeps what was executed, so that a killed sandbox remembers it
    #[arg(long, env = "KEYBRAKE_SANDBOX_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// Plain HTTP in the place of TLS, for benchmarks
    #[arg(long, env = "KEYBRAKE_SANDBOX_PLAIN")]
    pub plain: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| "expected ADDRESS:PORT".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the control API listens on loopback only".to_owned())
    }
}

/// Why the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is empty, or holds what no header can carry.
    #[error(
        "the secret file {path} must hold one secret of visible ASCII characters, or one a line"
    )]
    NoSecret {
        /// The file.
        path: String,
    },
    /// Somebody mistook the sandbox for the vendor.
    #[error("the secret file {path} holds a live key; the sandbox takes none")]
    Live {
        /// The file.
        path: String,
    },
}

impl Args {
    /// Where the vendor listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, self.port).into())
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.control
            .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, self.control_port).into())
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// When the file does not hold one secret, or a live one.
    pub fn secret(&self) -> Result<Secret, SecretError> {
        let path = self.secret_file.display().to_string();
        let text = match std::fs::read_to_string(&self.secret_file) {
            Ok(text) => text,
            Err(source) => return Err(SecretError::Unreadable { path, source }),
        };
        let secrets = text.trim();
        let unfit = |line: &str| line.is_empty() || !line.bytes().all(|b| b.is_ascii_graphic());
        if secrets.is_empty() || secrets.lines().any(unfit) {
            return Err(SecretError::NoSecret { path });
        }
        let live = |line: &str| line.starts_with("sk_live_") || line.starts_with("rk_live_");
        if secrets.lines().any(live) {
            return Err(SecretError::Live { path });
        }
        Ok(Secret::new(secrets))
    }
}
