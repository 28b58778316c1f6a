//! The certificate authorities that are trusted besides the system's: those of an organisation of its own. Must never
//! take the place of the system's, and never let a file through that holds none.

use std::{fmt, path::Path, sync::Arc};

use reqwest::{Certificate, ClientBuilder};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Largest file that is read, in bytes: the bundles of whole systems have a quarter of that.
const MAX_BYTES: u64 = 1024 * 1024;

/// Authorities besides the system's. Cheap to clone; by default, none.
#[derive(Clone, Default)]
pub struct Authorities(Option<Arc<Known>>);

struct Known {
    pem: String,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those of a file of certificates in PEM form; none where the path is empty. The error says what is wrong with
    /// the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes, the most that is taken"));
        }
        Self::of(std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Those of a text of certificates in PEM form (RFC 7468, section 5), at least one.
    pub fn of(pem: String) -> Result<Self, String> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = read.map_err(|error| format!("is not PEM throughout: {error}"))?;
        if certificates.is_empty() {
            return Err("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned());
        }
        for (index, certificate) in certificates.iter().enumerate() {
            RootCertStore::empty()
                .add(certificate.clone())
                .map_err(|error| format!("has a certificate, number {}, that is none: {error}", index + 1))?;
        }
        Ok(Self(Some(Arc::new(Known { pem, certificates }))))
    }

    /// The same as one text, where there are any.
    pub fn pem(&self) -> Option<&str> {
        self.0.as_ref().map(|known| known.pem.as_str())
    }

    /// Lets an HTTP client take certificates of these as well.
    pub fn add_to(&self, builder: ClientBuilder) -> ClientBuilder {
        let Some(known) = &self.0 else { return builder };
        // What cannot be read was refused when they were taken.
        let each =
            known.certificates.iter().filter_map(|certificate| Certificate::from_der(certificate).ok());
        builder.tls_certs_merge(each)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |known| known.certificates.len());
        f.debug_tuple("Authorities").field(&count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn a_file_of_certificates_is_taken_whole_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Authorities::read(&path)
        };
        let two = format!("# ours\n{}\n{}", authority(), authority());
        assert_eq!(format!("{:?}", read(&two).unwrap()), "Authorities(2)");
        assert_eq!(read(&two).unwrap().pem(), Some(two.as_str()));
        assert!(Authorities::read(Path::new("")).unwrap().pem().is_none());
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let half = &two[..two.len() - 60];
        for (bad, told) in [
            ("", "no certificate"),
            ("hello", "no certificate"),
            (&key, "no certificate"),
            (broken, "number 1"),
            (half, "PEM"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(told), "{bad}: {error}");
        }
        let missing = Authorities::read(&folder.path().join("nowhere")).unwrap_err();
        assert!(missing.contains("cannot be read"), "{missing}");
        std::fs::write(&path, vec![b' '; 2 * 1024 * 1024]).unwrap();
        assert!(Authorities::read(&path).unwrap_err().contains("bytes"));
    }
}
