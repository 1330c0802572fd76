//! Certificates and keys → TLS on a stream, in both roles.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::server::ParsedCertificate;
use sha2::Digest;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::TlsConnector;

use super::Stream;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is not PEM of the right kind.
    #[error("cannot use \"{path}\": {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate and key that do not go together.
    #[error("cannot use the certificate: {0}")]
    Certificate(#[source] rustls::Error),
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities")]
    NoAuthorities,
    /// Bytes came in clear where TLS had to begin.
    #[error("data was sent in clear before the TLS handshake")]
    Stuffed,
    /// A host name that cannot be in a certificate.
    #[error("\"{0}\" is not a name that a certificate can have")]
    Name(String),
    /// TLS was asked of a stream that cannot carry it.
    #[error("the connection cannot carry TLS")]
    NotTcp,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
}

/// TLS toward clients.
#[derive(Clone)]
pub struct ListenerTls {
    acceptor: TlsAcceptor,
    chain: Arc<[u8]>,
}

impl std::fmt::Debug for ListenerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListenerTls")
    }
}

impl ListenerTls {
    /// Reads a PEM file with the certificate chain and one with its key.
    ///
    /// # Errors
    /// When a file cannot be read or the two do not go together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let cert_pem = std::fs::read(cert).map_err(|error| wrong(cert, &error))?;
        let key_pem = std::fs::read(key).map_err(|error| wrong(key, &error))?;
        let chain = CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong(cert, &error))?;
        if chain.is_empty() {
            return Err(wrong(cert, &"it holds no certificate"));
        }
        let key_der = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| wrong(key, &error))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|it| it.with_no_client_auth().with_single_cert(chain, key_der))
            .map_err(TlsError::Certificate)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that stays unanswered needs no tickets: drivers open few connections and keep them.
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), chain: cert_pem.into() })
    }

    /// The PEM text of the chain, for channel binding.
    #[must_use]
    pub fn chain_pem(&self) -> &[u8] {
        &self.chain
    }
}

/// TLS toward servers.
#[derive(Clone, Debug)]
pub struct ClientTls(Mode);

#[derive(Clone, Debug)]
enum Mode {
    Off,
    IfOffered(Arc<ClientConfig>),
    Always(Arc<ClientConfig>),
}

impl ClientTls {
    /// Never.
    #[must_use]
    pub fn disabled() -> Self {
        Self(Mode::Off)
    }

    /// If the server can, whoever it is: this keeps listeners out, not impostors.
    ///
    /// # Errors
    /// When `ca` cannot be used.
    pub fn preferred(ca: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self(Mode::IfOffered(client_config(ca, Check::Chain)?)))
    }

    /// Always, whoever it is; with `ca`, only servers that those authorities vouch for, under whichever name.
    ///
    /// # Errors
    /// When `ca` cannot be used.
    pub fn required(ca: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self(Mode::Always(client_config(ca, Check::Chain)?)))
    }

    /// Always, and the certificate must be the host's; without `ca` the system's authorities are asked.
    ///
    /// # Errors
    /// When `ca` cannot be used, or the system has no authorities.
    pub fn verified(ca: Option<&Path>) -> Result<Self, TlsError> {
        Ok(Self(Mode::Always(client_config(ca, Check::ChainAndName)?)))
    }

    /// Whether a server is asked for TLS at all.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !matches!(self.0, Mode::Off)
    }

    /// Whether a server that has no TLS is turned away.
    #[must_use]
    pub fn is_required(&self) -> bool {
        matches!(self.0, Mode::Always(_))
    }

    /// The same without the name of Postgres's protocol, for servers that speak another.
    #[must_use]
    pub fn without_alpn(&self) -> Self {
        let silent = |config: &Arc<ClientConfig>| {
            let mut config = ClientConfig::clone(config);
            config.alpn_protocols.clear();
            Arc::new(config)
        };
        Self(match &self.0 {
            Mode::Off => Mode::Off,
            Mode::IfOffered(config) => Mode::IfOffered(silent(config)),
            Mode::Always(config) => Mode::Always(silent(config)),
        })
    }

    fn config(&self) -> Option<Arc<ClientConfig>> {
        match &self.0 {
            Mode::Off => None,
            Mode::IfOffered(config) | Mode::Always(config) => Some(Arc::clone(config)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Chain,
    ChainAndName,
}

fn client_config(ca: Option<&Path>, check: Check) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let mut judge = Judge { authorities: None, named: Vec::new(), check, provider: Arc::clone(&provider) };
    if check == Check::ChainAndName || ca.is_some() {
        let certificates = authorities(ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            match (roots.add(certificate.clone()), ca) {
                // A system's store may hold certificates that rustls cannot read; those vouch for nobody here.
                (Ok(()), _) | (Err(_), None) => {}
                (Err(error), Some(path)) => return Err(wrong(path, &error)),
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        judge.authorities = Some(verifier.map_err(|_| TlsError::NoAuthorities)?);
        if ca.is_some() {
            judge.named = certificates;
        }
    }
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Certificate)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The authorities in a file, or the system's.
fn authorities(ca: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let Some(path) = ca else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(wrong(path, &"it holds no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(path, &error)),
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), why: why.to_string() }
}

/// Decides whom to believe. That the server holds the certificate's key is checked in every case.
#[derive(Debug)]
struct Judge {
    /// Who may vouch; `None`: nobody needs to.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that the operator named: a server that shows one of them itself needs nobody else.
    named: Vec<CertificateDer<'static>>,
    check: Check,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let verdict = authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(rustls::Error::InvalidCertificate(error)) = &verdict else { return verdict };
        match error {
            // The name is looked at last: whoever gets there has a chain that holds.
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                if self.check == Check::Chain =>
            {
                Ok(ServerCertVerified::assertion())
            }
            // What `openssl req -x509` makes is its own authority, which is no server's certificate by the book. Its
            // dates have been looked at by then.
            CertificateError::Other(other)
                if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
                    && self.named.iter().any(|it| it == end_entity) =>
            {
                if self.check == Check::ChainAndName {
                    rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            _ => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Stream {
    /// Goes over to TLS as the server. `unread` is what was read and not used.
    ///
    /// # Errors
    /// When there is anything in `unread`, or the handshake fails. The connection is closed by then.
    pub async fn accept_tls(self, unread: &[u8], tls: &ListenerTls) -> Result<Self, TlsError> {
        let stream = self.clear(unread)?;
        let stream = tls.acceptor.accept(stream).await.map_err(TlsError::Handshake)?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// Goes over to TLS as the client of `host`. `unread` is what was read and not used.
    ///
    /// # Errors
    /// When there is anything in `unread`, the handshake fails, or the certificate will not do. The connection is
    /// closed by then.
    pub async fn connect_tls(self, unread: &[u8], tls: &ClientTls, host: &str) -> Result<Self, TlsError> {
        let stream = self.clear(unread)?;
        let config = tls.config().ok_or(TlsError::NotTcp)?;
        let name = ServerName::try_from(host).map_err(|_| TlsError::Name(host.to_owned()))?.to_owned();
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(TlsError::Handshake)?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// The stream as it must be where TLS begins: TCP, and silent in the other direction.
    fn clear(self, unread: &[u8]) -> Result<tokio::net::TcpStream, TlsError> {
        match self {
            Self::Plain(stream) if unread.is_empty() => Ok(stream),
            Self::Plain(_) => Err(TlsError::Stuffed),
            Self::Tls(_) | Self::Memory(_) => Err(TlsError::NotTcp),
        }
    }

    /// What binds a login to this TLS connection (`tls-server-end-point`, RFC 5929): the hash of the server's
    /// certificate. `None`: not TLS, not the client's end, or a certificate for which no hash is defined.
    #[must_use]
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => match stream.as_ref() {
                tokio_rustls::TlsStream::Client(stream) => {
                    stream.get_ref().1.peer_certificates()?.first().and_then(|it| end_point(it))
                }
                tokio_rustls::TlsStream::Server(_) => None,
            },
            Self::Plain(_) | Self::Memory(_) => None,
        }
    }
}

/// The hash of a certificate by the hash function of its signature; MD5 and SHA-1 are replaced by SHA-256.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { algorithm OID … }, signature }
    let (body, _) = der(certificate, 0x30)?;
    let (_, rest) = der(body, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    let (oid, _) = der(algorithm, 0x06)?;
    let (family, hash) = oid.split_at_checked(oid.len().checked_sub(1)?)?;
    match (family, hash) {
        _ if oid == ECDSA_SHA1 => Some(sha2::Sha256::digest(certificate).to_vec()),
        (RSA, [4 | 5 | 11]) | (ECDSA, [2]) => Some(sha2::Sha256::digest(certificate).to_vec()),
        (RSA, [12]) | (ECDSA, [3]) => Some(sha2::Sha384::digest(certificate).to_vec()),
        (RSA, [13]) | (ECDSA, [4]) => Some(sha2::Sha512::digest(certificate).to_vec()),
        // SHA-224, RSA-PSS (its hash is in the parameters), Ed25519 (it has none).
        _ => None,
    }
}

/// One DER value of type `tag`, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if length.len() > 4 {
            return None;
        }
        (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The protocol's name within TLS, as newer servers and drivers insist.
const ALPN: &[u8] = b"postgresql";
