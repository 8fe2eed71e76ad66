//! Verifiers of TLS server certificates.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Checks certificates of servers, and the signatures of their handshakes.
#[derive(Debug)]
pub(super) struct Verifier {
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Certificates {
    /// See [`Verifier::by_roots`].
    Trusted { by_roots: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
    /// See [`Verifier::of_anyone`].
    Any,
}

impl Verifier {
    /// Accepts certificates that `roots` have signed, and a certificate that is itself one of `own`.
    ///
    /// MinIO and other services are often run with one self-signed certificate that says `CA:TRUE`, and its file is
    /// named in `AWS_CA_BUNDLE`. curl, Go and Python accept such a server. webpki refuses a certificate authority's
    /// certificate as a server's. If that is the only fault that webpki finds (it checks the dates first) and the
    /// certificate is byte for byte one of `own`, its names are checked here instead.
    pub(super) fn by_roots(
        roots: RootCertStore,
        own: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| format!("cannot set up TLS: {e}"))?;
        Ok(Self { certificates: Certificates::Trusted { by_roots, own }, provider })
    }

    /// Accepts any certificate (`skip-verify`). Signatures of the handshake are still checked.
    pub(super) fn of_anyone(provider: Arc<CryptoProvider>) -> Self {
        Self { certificates: Certificates::Any, provider }
    }
}

fn is_ca_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Certificates::Trusted { by_roots, own } = &self.certificates else {
            return Ok(ServerCertVerified::assertion());
        };
        match by_roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_ca_as_server(&error) && own.iter().any(|own| own == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
