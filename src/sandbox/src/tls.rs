//! The sandbox's own certificate authority and server certificate, made anew at each start.
//!
//! Only the authority's certificate is written to disk; private keys live and die with the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// The names that the server certificate always has.
const NAMES: &[&str] = &["api.stripe.com", "localhost", "127.0.0.1"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A name that no certificate can carry, or no randomness.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses the certificate.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
    /// `ca.pem` cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Makes the authority and the server certificate, writes `ca.pem` into this folder and gives the acceptor and the file.
///
/// # Errors
/// When a name is no name or the file cannot be written.
pub fn set_up(folder: &Path, more_names: &[String]) -> Result<(TlsAcceptor, PathBuf), TlsError> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name
        .push(DnType::CommonName, "Keybrake sandbox CA");
    (ca.not_before, ca.not_after) = (
        rcgen::date_time_ymd(2020, 1, 1),
        rcgen::date_time_ymd(2046, 1, 1),
    );
    let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let names: Vec<String> = NAMES
        .iter()
        .map(|name| (*name).to_owned())
        .chain(more_names.iter().cloned())
        .collect();
    let mut server = CertificateParams::new(names)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "Keybrake sandbox vendor");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (server.not_before, server.not_after) = (
        rcgen::date_time_ymd(2020, 1, 1),
        rcgen::date_time_ymd(2046, 1, 1),
    );
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?;

    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone(), issuer.der().clone()],
            private,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];

    let path = folder.join("ca.pem");
    write_whole(folder, &path, issuer.pem().as_bytes()).map_err(|source| TlsError::Write {
        path: path.display().to_string(),
        source,
    })?;
    Ok((TlsAcceptor::from(Arc::new(config)), path))
}

/// Writes beside and renames, so that nobody reads half a certificate.
fn write_whole(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension("pem.new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&beside, path)
}
