//! What was wrong with a certificate because of which there was no connection, in words fit for whoever made the call.
//! Must never repeat what stands in a certificate: the server chose it.

use std::{error::Error as StdError, io};

use rustls::{CertificateError, Error as TlsError};

/// How rustls tells of an alert where only the text of an error is left (HTTP/2 keeps no more).
const ALERT: &str = "received fatal alert: ";

/// A certificate, the server's or ours, that was refused. No request was begun: a server takes none before it is
/// content with the client's certificate (RFC 8446, sections 4.4.2.4 and 6.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{told}")]
pub struct CertificateFault {
    told: String,
    is_ours: bool,
}

impl CertificateFault {
    /// The fault that is among the causes of an error.
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut current = Some(error);
        while let Some(error) = current {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            // An error of I/O does not count what it was made of among its sources.
            if let Some(fault) = inner.and_then(|inner| Self::of(inner)) {
                return Some(fault);
            }
            let fault = match error.downcast_ref::<TlsError>() {
                Some(TlsError::InvalidCertificate(fault)) => Some(of_server(fault)),
                Some(TlsError::AlertReceived(alert)) => of_client(&format!("{alert:?}")),
                Some(_) => None,
                None => error.to_string().strip_prefix(ALERT).and_then(of_client),
            };
            if fault.is_some() {
                return fault;
            }
            current = error.source();
        }
        None
    }

    /// Whether it is the client's certificate that was shown and refused; another one may be taken.
    pub fn is_ours(&self) -> bool {
        self.is_ours
    }
}

fn of_server(fault: &CertificateError) -> CertificateFault {
    use CertificateError as Fault;
    let what = match fault {
        Fault::Expired | Fault::ExpiredContext { .. } => "has expired",
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => "is not valid yet",
        Fault::UnknownIssuer => {
            "comes from an authority that is not trusted (the setting tls.extra_ca_file adds authorities, a \
             credential of kind mtls has its own)"
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => "is for another host name",
        Fault::Revoked => "was revoked",
        Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => "is not one of a server",
        Fault::BadSignature => "is not signed by the authority that it names",
        Fault::BadEncoding => "is no certificate",
        _ => "cannot be used",
    };
    CertificateFault { told: format!("the server's certificate {what}"), is_ours: false }
}

/// By name of the alert (RFC 8446, section 6.2), of those that only judge a client's certificate here.
fn of_client(alert: &str) -> Option<CertificateFault> {
    let what = match alert {
        "CertificateRequired" | "NoCertificate" => {
            let told =
                "the server wants a client certificate, and none is shown (a credential of kind mtls is one)";
            return Some(CertificateFault { told: told.to_owned(), is_ours: false });
        }
        "CertificateExpired" => "it has expired",
        "CertificateRevoked" => "it was revoked",
        "UnknownCA" => "it does not know the authority that the certificate comes from",
        "BadCertificate" | "DecryptError" => "it cannot be verified",
        "UnsupportedCertificate" => "it is of a kind that is not taken",
        "CertificateUnknown" => "it does not say why",
        "AccessDenied" => "it is let in nowhere",
        _ => return None,
    };
    Some(CertificateFault {
        told: format!("the server refuses the client certificate: {what}"),
        is_ours: true,
    })
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    fn of(error: TlsError) -> Option<CertificateFault> {
        CertificateFault::of(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    #[test]
    fn a_fault_is_found_however_deep_and_says_whose_it_is() {
        let theirs = of(CertificateError::Expired.into()).unwrap();
        assert!(!theirs.is_ours() && theirs.to_string().contains("has expired"), "{theirs}");
        let unknown = of(CertificateError::UnknownIssuer.into()).unwrap();
        assert!(unknown.to_string().contains("tls.extra_ca_file"), "{unknown}");
        let ours = of(TlsError::AlertReceived(AlertDescription::CertificateRevoked)).unwrap();
        assert!(ours.is_ours() && ours.to_string().contains("was revoked"), "{ours}");
        let none = of(TlsError::AlertReceived(AlertDescription::CertificateRequired)).unwrap();
        assert!(!none.is_ours() && none.to_string().contains("none is shown"), "{none}");
        let text = io::Error::other("received fatal alert: UnknownCA");
        assert!(CertificateFault::of(&text).unwrap().is_ours());
    }

    #[test]
    fn any_other_failure_is_none_of_a_certificate() {
        // Such an alert may come after the work was begun.
        assert_eq!(of(TlsError::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(of(TlsError::HandshakeNotComplete), None);
        assert_eq!(CertificateFault::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
