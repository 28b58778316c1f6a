//! Client certificates: read, matched with their key, and asked when they end. Must never tell what it read.

use ::rpc::FieldViolation;
use chrono::{DateTime, Utc};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::parse_x509_certificate;

use super::{check::violation, secret::MutualTls};

const CERTIFICATE: &str = "secret.mutual_tls.certificate_pem";
const KEY: &str = "secret.mutual_tls.private_key_pem";
const CA: &str = "secret.mutual_tls.ca_pem";
/// Longest PEM text, in bytes.
const MAX_PEM: usize = 64 * 1024;

/// When the certificate ends, if everything fits together.
pub(super) fn end_of(secret: &MutualTls) -> Result<DateTime<Utc>, FieldViolation> {
    let chain = certificates(CERTIFICATE, secret.certificate_pem.expose())?;
    let Some(first) = chain.first() else {
        return Err(violation(CERTIFICATE, "holds no certificate; give it and its chain as PEM"));
    };
    let unreadable = || violation(CERTIFICATE, "is not an X.509 certificate");
    let (_, parsed) = parse_x509_certificate(first).map_err(|_| unreadable())?;
    let end = parsed.validity().not_after.timestamp();
    let end = DateTime::from_timestamp(end, 0).ok_or_else(unreadable)?;
    let key = private_key(secret.private_key_pem.expose())?;
    let signing = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| violation(KEY, "is of a kind that cannot be used; give an RSA, ECDSA or Ed25519 key"))?;
    CertifiedKey::new(chain, signing)
        .keys_match()
        .map_err(|_| violation(KEY, "does not belong to the certificate"))?;
    if !secret.ca_pem.is_empty() && certificates(CA, secret.ca_pem.expose())?.is_empty() {
        return Err(violation(CA, "holds no certificate; give those of the authorities as PEM, or nothing"));
    }
    Ok(end)
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, FieldViolation> {
    if pem.len() > MAX_PEM {
        return Err(violation(field, "must be at most 65536 bytes"));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|_| violation(field, "is not PEM"))?;
    if read.iter().any(|each| parse_x509_certificate(each).is_err()) {
        return Err(violation(field, "holds something that is not an X.509 certificate"));
    }
    Ok(read)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, FieldViolation> {
    if pem.len() > MAX_PEM {
        return Err(violation(KEY, "must be at most 65536 bytes"));
    }
    if pem.contains("ENCRYPTED") {
        return Err(violation(KEY, "is encrypted; give it without a passphrase"));
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| violation(KEY, "holds no private key; give one as PEM (PKCS #8, PKCS #1 or SEC 1)"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pair() -> MutualTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".into()]).unwrap();
        params.not_after = date_time_ymd(2031, 5, 6);
        let certificate = params.self_signed(&key).unwrap();
        MutualTls {
            certificate_pem: certificate.pem().into(),
            private_key_pem: key.serialize_pem().into(),
            ca_pem: certificate.pem().into(),
        }
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(end_of(&pair()).unwrap().to_rfc3339(), "2031-05-06T00:00:00+00:00");
    }

    #[test]
    fn what_does_not_fit_together_is_refused_and_named() {
        let other = pair();
        let field = |changed: MutualTls| end_of(&changed).unwrap_err().field;
        assert_eq!(field(MutualTls { private_key_pem: other.private_key_pem, ..pair() }), KEY);
        assert_eq!(field(MutualTls { private_key_pem: "x".into(), ..pair() }), KEY);
        assert_eq!(field(MutualTls { certificate_pem: "x".into(), ..pair() }), CERTIFICATE);
        assert_eq!(field(MutualTls { certificate_pem: pair().private_key_pem, ..pair() }), CERTIFICATE);
        assert_eq!(field(MutualTls { ca_pem: "x".into(), ..pair() }), CA);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(field(MutualTls { certificate_pem: broken.into(), ..pair() }), CERTIFICATE);
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let told = end_of(&MutualTls { private_key_pem: locked.into(), ..pair() }).unwrap_err();
        assert!(told.description.contains("encrypted"));
    }
}
