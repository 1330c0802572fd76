//! Certificates for tests, made on the spot.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use super::ListenerTls;

/// A certificate that signs itself, and its key, in files that go when this goes.
pub(crate) struct Certificate {
    folder: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// For servers of that name.
    pub(crate) fn new(name: &str) -> Self {
        Self::make(name, rcgen::IsCa::NoCa)
    }

    /// The same marked as an authority, as `openssl req -x509` makes them.
    pub(crate) fn authority(name: &str) -> Self {
        Self::make(name, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))
    }

    fn make(name: &str, is_ca: rcgen::IsCa) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("shardway-certificate-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = is_ca;
        let signer = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&cert, parameters.self_signed(&signer).unwrap().pem()).unwrap();
        std::fs::write(&key, signer.serialize_pem()).unwrap();
        Self { folder, cert, key }
    }

    /// Where the certificate is: it is its own authority.
    pub(crate) fn path(&self) -> &Path {
        &self.cert
    }

    /// What a listener makes of it.
    pub(crate) fn server(&self) -> ListenerTls {
        ListenerTls::load(&self.cert, &self.key).unwrap()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // A test that failed before must not hide its failure behind this one.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
