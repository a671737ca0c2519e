//! TLS for the listener: the configured certificate, or a self-signed one that is made once in the data folder, and
//! more of them for other names in `<data folder>/certificates/<name>/{fullchain,key}.pem`.
//!
//! Promises TLS 1.2 and 1.3 through aws-lc alone, no TLS 1.3 session tickets (Outlook hangs up on them), the first
//! certificate for any name that has none of its own, and that [`Certificates::reload`] leaves all as it was when
//! one file is broken, or a certificate that has run out would take the place of one that has not. A self-signed
//! certificate is what opportunistic TLS between mail servers lives with.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Facts;
use crate::config;
use crate::time::Timestamp;

/// The certificate in use. Clones share it.
#[derive(Clone, Debug)]
pub struct Certificates {
    files: Arc<Files>,
    current: Arc<RwLock<InUse>>,
    seen: Arc<Mutex<Stamp>>,
}

/// What handshakes are made with.
#[derive(Clone, Debug)]
struct InUse {
    config: Arc<ServerConfig>,
    keys: Arc<ByName>,
}

/// Each file, when it was last changed and how long it was.
type Stamp = Vec<(PathBuf, Option<(SystemTime, u64)>)>;

/// What came of looking at the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They were new and are in use.
    Fresh,
    /// They were as before.
    Unchanged,
}

/// One pair of files, looked at.
#[derive(Debug)]
pub struct Surveyed {
    /// The server name that it is for; none for the first.
    pub name: Option<String>,
    /// The certificate's file.
    pub path: PathBuf,
    /// Its leaf, if certificate and key can be used together.
    pub leaf: Result<CertificateDer<'static>, TlsError>,
}

#[derive(Debug)]
struct Files {
    first: Pair,
    /// Holds a folder for each further name.
    folder: PathBuf,
}

#[derive(Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// The certificate for each server name (RFC 6066 section 3).
#[derive(Debug)]
struct ByName {
    first: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// Each name, none for the first, and its certificate.
    fn all(&self) -> impl Iterator<Item = (Option<&str>, &CertifiedKey)> {
        let named = self.named.iter().map(|(name, key)| (Some(name.as_str()), key.as_ref()));
        std::iter::once((None, self.first.as_ref())).chain(named)
    }

    /// What is served to whoever asks for a name: a name without one of its own, or none, gets the first.
    fn served(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        name.and_then(|name| self.named.get(name)).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    /// RFC 8461 section 5: an unknown name, or none, is no reason to refuse.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(Arc::clone(self.served(name.as_deref())))
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The self-signed certificate could not be computed.
    #[error("cannot make a self-signed certificate for {hostname}")]
    Generate {
        /// For this name.
        hostname: String,
        /// Why.
        source: rcgen::Error,
    },
    /// The certificate in use is still valid, and the one that is to take its place is not any more.
    #[error("{certificate}: the certificate there has run out, the one in use has not")]
    RunOut {
        /// The certificate file.
        certificate: PathBuf,
    },
    /// A file holds no PEM of the kind that belongs there.
    #[error("{path}: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Without key material.
        detail: String,
    },
    /// Certificate and key do not go together, or the library refuses them.
    #[error("certificate {certificate} and key {key} cannot be used together")]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Certificates {
    /// Reads the configured files; where none are configured, those in the data folder, made on first start with
    /// a key of mode 0600.
    ///
    /// # Errors
    /// If a file cannot be read, written or used.
    pub fn load(tls: &config::Tls, data_folder: &Path, hostname: &str) -> Result<Self, TlsError> {
        let first = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => Pair { certificate: certificate.clone(), key: key.clone() },
            (None, _) | (_, None) => self_signed(data_folder, hostname)?,
        };
        let files = Files { first, folder: data_folder.join("certificates") };
        let seen = Arc::new(Mutex::new(files.stamp()));
        let current = Arc::new(RwLock::new(files.read()?));
        Ok(Self { files: Arc::new(files), current, seen })
    }

    /// Reads the files again; new handshakes use what is in them.
    ///
    /// # Errors
    /// If they cannot be used, or one has run out and the one in use has not. The certificates then stay what they
    /// were, and `syncmx_tls_reloads_failed_total` counts it.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = self.files.read().and_then(|fresh| {
            self.check_valid_in_place_of_valid(&fresh, Timestamp::now())?;
            Ok(fresh)
        });
        let fresh =
            read.inspect_err(|_| metrics::counter!("syncmx_tls_reloads_failed_total").increment(1))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn check_valid_in_place_of_valid(&self, fresh: &InUse, now: Timestamp) -> Result<(), TlsError> {
        let current = self.current();
        // Names that are gone, too: from now on they would be served with the first.
        let mut names = current.keys.all().chain(fresh.keys.all()).map(|(name, _)| name);
        let is_worse = |name: &Option<&str>| {
            !has_run_out(current.keys.served(*name), now) && has_run_out(fresh.keys.served(*name), now)
        };
        let Some(name) = names.find(is_worse) else { return Ok(()) };
        let certificate = match name.filter(|name| fresh.keys.named.contains_key(*name)) {
            Some(name) => self.files.folder.join(name).join(CHAIN_FILE),
            None => self.files.first.certificate.clone(),
        };
        Err(TlsError::RunOut { certificate })
    }

    fn current(&self) -> InUse {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again if they have changed since they were last looked at, so that broken ones are
    /// complained of once.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub fn reload_if_changed(&self) -> Result<Reloaded, TlsError> {
        let stamp = self.files.stamp();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == stamp {
                return Ok(Reloaded::Unchanged);
            }
            *seen = stamp;
        }
        self.reload().map(|()| Reloaded::Fresh)
    }

    /// What lies in the files now, for `check`: the first pair, then those of further names. Nothing is made; where no
    /// pair is configured and none has been made yet, the first is missing.
    #[must_use]
    pub fn survey(tls: &config::Tls, data_folder: &Path) -> Vec<Surveyed> {
        let first = match (&tls.certificate, &tls.key) {
            (Some(certificate), Some(key)) => {
                Some(Pair { certificate: certificate.clone(), key: key.clone() })
            }
            (None, _) | (_, None) => {
                Some(made_pair(data_folder)).filter(|pair| pair.certificate.exists() && pair.key.exists())
            }
        };
        let files = Files { first: made_pair(data_folder), folder: data_folder.join("certificates") };
        let named = files.named().into_iter().map(|(name, pair)| (Some(name), pair));
        let pairs = first.into_iter().map(|pair| (None, pair)).chain(named);
        pairs
            .map(|(name, pair)| Surveyed {
                name,
                leaf: pair.read().and_then(|key| {
                    let detail = "holds no certificate".to_owned();
                    let malformed = TlsError::Malformed { path: pair.certificate.clone(), detail };
                    key.cert.first().cloned().ok_or(malformed)
                }),
                path: pair.certificate,
            })
            .collect()
    }

    /// For the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current().config.into()
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        let named = self.named().into_iter().map(|(_, pair)| pair);
        let pairs = named.flat_map(|pair| [pair.certificate, pair.key]);
        let first = [self.first.certificate.clone(), self.first.key.clone()];
        let stamp = |path: PathBuf| {
            let metadata = fs::metadata(&path).ok();
            let seen = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            (path, seen)
        };
        first.into_iter().chain(pairs).map(stamp).collect()
    }

    /// The further names, in order.
    fn named(&self) -> Vec<(String, Pair)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let entries = entries.filter(|entry| entry.path().is_dir());
        let pair =
            |folder: PathBuf| Pair { certificate: folder.join(CHAIN_FILE), key: folder.join("key.pem") };
        let named = |entry: fs::DirEntry| {
            Some((entry.file_name().to_str()?.to_ascii_lowercase(), pair(entry.path())))
        };
        let mut named: Vec<_> = entries.filter_map(named).collect();
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        named
    }

    fn read(&self) -> Result<InUse, TlsError> {
        let first = Arc::new(self.first.read()?);
        let read = |(name, pair): (String, Pair)| Ok((name, Arc::new(pair.read()?)));
        let named = self.named().into_iter().map(read).collect::<Result<_, TlsError>>()?;
        let keys = Arc::new(ByName { first, named });
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&versions)
            .map_err(|source| self.first.mismatch(source))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&keys) as Arc<dyn ResolvesServerCert>);
        // Row B10: Exchange Online closes the connection on a NewSessionTicket.
        config.send_tls13_tickets = 0;
        Ok(InUse { config: Arc::new(config), keys })
    }
}

impl Pair {
    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let chain = self.read_chain()?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| pem_error(&self.key, error))?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|source| self.mismatch(source))
    }

    fn mismatch(&self, source: rustls::Error) -> TlsError {
        TlsError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone(), source }
    }

    fn read_chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let refused = |error| pem_error(&self.certificate, error);
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .map_err(refused)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        if chain.is_empty() {
            let detail = "holds no certificate".to_owned();
            return Err(TlsError::Malformed { path: self.certificate.clone(), detail });
        }
        Ok(chain)
    }
}

/// One whose dates cannot be read is taken as it is.
fn has_run_out(key: &CertifiedKey, now: Timestamp) -> bool {
    let facts = key.cert.first().map(Facts::read);
    facts.is_some_and(|facts| facts.is_ok_and(|facts| facts.not_after < now))
}

fn pem_error(path: &Path, error: rustls_pki_types::pem::Error) -> TlsError {
    use rustls_pki_types::pem::Error;
    let path = path.to_owned();
    if let Error::Io(source) = error {
        return TlsError::Unusable { path, source };
    }
    // The library's own text may quote the file.
    let detail =
        if matches!(error, Error::NoItemsFound) { "holds no PEM of this kind" } else { "is not valid PEM" };
    TlsError::Malformed { path, detail: detail.to_owned() }
}

/// The files of the pair that we make ourselves.
fn made_pair(data_folder: &Path) -> Pair {
    Pair {
        certificate: data_folder.join("smtp-certificate.pem"),
        key: data_folder.join("smtp-certificate-key.pem"),
    }
}

/// The files in the data folder, made if they are not there.
fn self_signed(data_folder: &Path, hostname: &str) -> Result<Pair, TlsError> {
    let files = made_pair(data_folder);
    if files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    let generate = |source| TlsError::Generate { hostname: hostname.to_owned(), source };
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(generate)?;
    let certificate = rcgen::CertificateParams::new([hostname.to_owned()])
        .and_then(|params| params.self_signed(&key))
        .map_err(generate)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate.pem(), 0o644)?;
    Ok(files)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let unusable = |source| TlsError::Unusable { path: path.to_owned(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(unusable)?;
    }
    // Whole or not at all: half a certificate would keep every later start from coming up.
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        Ok(()) | Err(_) => {}
    }
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(unusable)
}

const CHAIN_FILE: &str = "fullchain.pem";

/// `TLSv1.3 TLS13_AES_128_GCM_SHA256`, as the trace shows it.
pub(super) fn describe(connection: &rustls::ServerConnection) -> String {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(_) | None => "TLS",
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    format!("{version} {}", suite.unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(folder: &Path) -> Result<Certificates, TlsError> {
        Certificates::load(&config::Tls::default(), folder, "mx.example.test")
    }

    #[test]
    fn a_self_signed_certificate_is_made_once_with_a_key_of_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        load(&data).unwrap();
        let key = data.join("smtp-certificate-key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(data.join("smtp-certificate.pem")).unwrap();
        load(&data).unwrap();
        assert_eq!(fs::read(data.join("smtp-certificate.pem")).unwrap(), first);
    }

    #[test]
    fn b6_x16_broken_files_keep_the_old_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = load(folder.path()).unwrap();
        let before = Arc::as_ptr(certificates.acceptor().config());
        let (certificate, key) =
            (folder.path().join("smtp-certificate.pem"), folder.path().join("smtp-certificate-key.pem"));
        let good = fs::read(&certificate).unwrap();
        for broken in [&b""[..], b"no pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            fs::write(&certificate, broken).unwrap();
            assert!(certificates.reload().is_err());
            assert_eq!(Arc::as_ptr(certificates.acceptor().config()), before);
        }
        fs::write(&certificate, good).unwrap();
        let other = tempfile::tempdir().unwrap();
        load(other.path()).unwrap();
        fs::copy(other.path().join("smtp-certificate-key.pem"), &key).unwrap();
        assert!(matches!(certificates.reload(), Err(TlsError::Mismatch { .. })));
        fs::copy(other.path().join("smtp-certificate.pem"), &certificate).unwrap();
        assert_eq!(certificates.reload_if_changed().unwrap(), Reloaded::Fresh);
        assert_eq!(certificates.reload_if_changed().unwrap(), Reloaded::Unchanged);
        assert_ne!(Arc::as_ptr(certificates.acceptor().config()), before);
    }

    /// A pair whose validity ends in this year.
    fn write_pair(certificate: &Path, key: &Path, until: i32) {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = rcgen::CertificateParams::new(["mx.example.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        fs::create_dir_all(certificate.parent().unwrap()).unwrap();
        fs::write(certificate, params.self_signed(&made).unwrap().pem()).unwrap();
        fs::write(key, made.serialize_pem()).unwrap();
    }

    /// A first pair in files of this folder, and its certificate and key.
    fn configured(folder: &Path) -> (config::Tls, PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("first.pem"), folder.join("first-key.pem"));
        let (named, its_key) = (Some(certificate.clone()), Some(key.clone()));
        (config::Tls { certificate: named, key: its_key, ..config::Tls::default() }, certificate, key)
    }

    #[test]
    fn x16_a_certificate_that_has_run_out_does_not_take_the_place_of_one_that_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("certificates/mx.other.test");
        let (tls, certificate, key) = configured(folder.path());
        let pairs = [
            (None, (certificate, key)),
            (Some("mx.other.test"), (named.join("fullchain.pem"), named.join("key.pem"))),
        ];
        for (_, (certificate, key)) in &pairs {
            write_pair(certificate, key, 2100);
        }
        let certificates = Certificates::load(&tls, folder.path(), "mx.example.test").unwrap();
        for (name, (certificate, key)) in &pairs {
            let name = name.unwrap_or("mx.example.test");
            let before = served(&certificates, name);
            write_pair(certificate, key, 2021);
            let error = certificates.reload_if_changed().unwrap_err();
            let expected = format!(
                "{}: the certificate there has run out, the one in use has not",
                certificate.display()
            );
            assert_eq!(error.to_string(), expected);
            assert_eq!(served(&certificates, name), before);
            write_pair(certificate, key, 2101);
            assert_eq!(certificates.reload_if_changed().unwrap(), Reloaded::Fresh);
            assert_ne!(served(&certificates, name), before);
        }
    }

    #[test]
    fn x16_a_name_that_is_gone_is_not_served_with_a_first_that_has_run_out() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("certificates/mx.other.test");
        let (tls, certificate, key) = configured(folder.path());
        write_pair(&certificate, &key, 2021);
        write_pair(&named.join("fullchain.pem"), &named.join("key.pem"), 2100);
        let certificates = Certificates::load(&tls, folder.path(), "mx.example.test").unwrap();
        fs::remove_dir_all(&named).unwrap();
        let error = certificates.reload().unwrap_err().to_string();
        assert!(error.starts_with(&certificate.display().to_string()), "{error}");
        write_pair(&certificate, &key, 2100);
        certificates.reload().unwrap();
    }

    #[test]
    fn x16_where_the_one_in_use_has_run_out_any_other_is_as_good() {
        let folder = tempfile::tempdir().unwrap();
        let (tls, certificate, key) = configured(folder.path());
        write_pair(&certificate, &key, 2021);
        let certificates = Certificates::load(&tls, folder.path(), "mx.example.test").unwrap();
        write_pair(&certificate, &key, 2022);
        certificates.reload().unwrap();
    }

    /// The leaf that a client which names this server gets.
    fn served(certificates: &Certificates, name: &str) -> CertificateDer<'static> {
        let client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let accepted = acceptor.accept().map_err(|(error, _)| error).unwrap().unwrap();
        let config = Arc::clone(certificates.acceptor().config());
        config.cert_resolver.resolve(accepted.client_hello()).unwrap().cert.first().unwrap().clone()
    }

    #[test]
    fn b8_each_name_gets_its_own_certificate_and_any_other_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = load(folder.path()).unwrap();
        let first = served(&certificates, "mx.example.test");
        let named = folder.path().join("certificates/MX.other.test");
        let other = tempfile::tempdir().unwrap();
        load(other.path()).unwrap();
        fs::create_dir_all(&named).unwrap();
        fs::copy(other.path().join("smtp-certificate.pem"), named.join("fullchain.pem")).unwrap();
        assert!(certificates.reload_if_changed().is_err(), "half a pair");
        assert_eq!(served(&certificates, "mx.other.test"), first);
        fs::copy(other.path().join("smtp-certificate-key.pem"), named.join("key.pem")).unwrap();
        assert_eq!(certificates.reload_if_changed().unwrap(), Reloaded::Fresh);
        assert_ne!(served(&certificates, "mx.other.test"), first);
        assert_eq!(served(&certificates, "mx.example.test"), first);
        assert_eq!(served(&certificates, "192.0.2.1"), first, "no name at all");
    }

    #[test]
    fn the_development_pair_can_be_used() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/dev");
        let tls = config::Tls {
            certificate: Some(folder.join("fullchain.pem")),
            key: Some(folder.join("key.pem")),
            ..config::Tls::default()
        };
        Certificates::load(&tls, Path::new("/nonexistent"), "mx.example.test").unwrap();
    }

    #[test]
    fn a_missing_configured_file_is_named() {
        let tls = config::Tls {
            certificate: Some("/nonexistent/chain.pem".into()),
            key: Some("/nonexistent/key.pem".into()),
            ..config::Tls::default()
        };
        let error = Certificates::load(&tls, Path::new("/nonexistent"), "mx.example.test").unwrap_err();
        assert_eq!(error.to_string(), "cannot use /nonexistent/chain.pem");
    }
}
