//! TLS settings: which certificates are accepted, and the configurations that all clients of a command share.

use super::verify::Verifier;
use crate::process::locks::lock;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Which certificates of servers a TLS client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Certificates signed by this machine's root certificates or by those in `AWS_CA_BUNDLE`.
    Roots,
    /// Any certificate, because the user has set `skip-verify`.
    Anyone,
    /// No certificate: the endpoint uses plain HTTP, so root certificates are not read.
    NoOne,
}

/// TLS configurations, one for each combination of settings. Reading hundreds of root certificates takes
/// milliseconds, so it is done once for each combination. Clones share the configurations, so workers can
/// resume each other's TLS sessions.
#[derive(Clone, Default)]
pub struct TlsConfigs(Arc<Mutex<Vec<Configured>>>);

struct Configured {
    trust: Trust,
    ca_bundle: Option<PathBuf>,
    config: ClientConfig,
}

/// Does not print the configurations, which are long.
impl fmt::Debug for TlsConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfigs(…)")
    }
}

impl TlsConfigs {
    /// Returns the configuration for these settings. The error says what to correct.
    pub(super) fn of(&self, trust: Trust, ca_bundle: Option<&Path>) -> Result<ClientConfig, String> {
        let mut configs = lock(&self.0);
        let known = configs.iter().find(|known| known.trust == trust && known.ca_bundle.as_deref() == ca_bundle);
        if let Some(known) = known {
            return Ok(known.config.clone());
        }
        let config = tls_config(trust, ca_bundle)?;
        configs.push(Configured { trust, ca_bundle: ca_bundle.map(Path::to_owned), config: config.clone() });
        Ok(config)
    }
}

fn tls_config(trust: Trust, ca_bundle: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("cannot set up TLS: {e}"))?;
    let builder = match trust {
        Trust::Roots => {
            let (roots, certificates) = roots(ca_bundle)?;
            let verifier = Verifier::by_roots(roots, certificates, provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Verifier::of_anyone(provider))),
        Trust::NoOne => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Returns the trusted root certificates, parsed and in their original form.
fn roots(ca_bundle: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut store = RootCertStore::empty();
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    store.add_parsable_certificates(certificates.iter().cloned());
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = ca_bundle {
        let own = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| format!("AWS_CA_BUNDLE {} cannot be read: {e}", path.display()))?;
        let (added, _) = store.add_parsable_certificates(own.iter().cloned());
        if added == 0 {
            return Err(format!("AWS_CA_BUNDLE {} holds no certificate", path.display()));
        }
        certificates.extend(own);
    }
    Ok((store, certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_configurations_and_failures_are_not_kept() {
        let configs = TlsConfigs::default();
        let count = || lock(&configs.0).len();
        for _ in 0..2 {
            configs.clone().of(Trust::NoOne, None).unwrap();
        }
        assert_eq!(count(), 1);
        configs.of(Trust::Roots, Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
        assert_eq!(count(), 1);
        configs.of(Trust::Anyone, None).unwrap();
        assert_eq!((count(), lock(&TlsConfigs::default().0).len()), (2, 0));
    }
}
