//! Chooses the proxy for a request from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, by the rules
//! of curl and Go (docs/CLI.md, "Flags of all commands").

use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

/// The values of the proxy variables as typed. `Debug` hides them, because proxy URLs may contain a password.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct ProxySettings {
    /// Value of `HTTPS_PROXY`, else `https_proxy`: the proxy for `https` endpoints.
    pub https: Option<String>,
    /// Value of `HTTP_PROXY`, else `http_proxy`: the proxy for `http` endpoints.
    pub http: Option<String>,
    /// Value of `ALL_PROXY`, else `all_proxy`: the proxy for endpoints whose own variable is not set.
    pub all: Option<String>,
    /// Value of `NO_PROXY`, else `no_proxy`: hosts that are reached without a proxy.
    pub none: Option<String>,
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxySettings(…)")
    }
}

/// URL of a proxy, and the environment variable that it comes from, for messages.
#[derive(Clone)]
struct Proxy {
    url: Url,
    variable: &'static str,
}

/// The parsed values of [`ProxySettings`].
#[derive(Clone, Default)]
pub(super) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    direct: Vec<Direct>,
}

/// One entry of `NO_PROXY`: hosts that are reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Direct {
    hosts: Hosts,
    /// Port that the entry applies to. None: all ports.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// This host name, and every name below it.
    Domain(String),
    /// Every name below this host name, but not the name itself.
    Subdomains(String),
    /// The IP addresses whose first bits are equal to those of this address. The number is the number of bits.
    Network(IpAddr, u8),
}

impl ProxySettings {
    pub(super) fn is_empty(&self) -> bool {
        self.https.is_none() && self.http.is_none() && self.all.is_none()
    }
}

impl Proxies {
    /// Parses the settings. The error names the variable and contains nothing of its value.
    pub(super) fn parse(settings: &ProxySettings) -> Result<Self, String> {
        let all = settings.all.as_deref().map(|text| Proxy::parse(text, "ALL_PROXY")).transpose()?;
        let of = |text: &Option<String>, variable| match text {
            Some(text) => Proxy::parse(text, variable).map(Some),
            None => Ok(all.clone()),
        };
        let entries = settings.none.as_deref().unwrap_or_default().split([',', ' ', '\t']);
        Ok(Self {
            https: of(&settings.https, "HTTPS_PROXY")?,
            http: of(&settings.http, "HTTP_PROXY")?,
            direct: entries.filter_map(Direct::parse).collect(),
        })
    }

    /// Returns the URL of the proxy for `url`. None: `url` is reached directly. That is always so for this
    /// machine's own addresses, which a proxy cannot reach.
    pub(super) fn for_url(&self, url: &Url) -> Option<Url> {
        self.choose(url).map(|proxy| proxy.url.clone())
    }

    /// Describes the proxy for `url` for messages: `http://host:port (HTTPS_PROXY)`, without user and password.
    pub(super) fn described(&self, url: &Url) -> Option<String> {
        let Proxy { url, variable } = self.choose(url)?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port} ({variable})", url.scheme(), url.host_str().unwrap_or_default()))
    }

    fn choose(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http }.as_ref()?;
        let host = url.host()?;
        let port = url.port_or_known_default();
        let direct = is_loopback(&host) || self.direct.iter().any(|entry| entry.covers(&host, port));
        (!direct).then_some(proxy)
    }
}

impl Proxy {
    fn parse(text: &str, variable: &'static str) -> Result<Self, String> {
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&full).ok().filter(Url::has_host).ok_or_else(|| format!("{variable} is not a URL"))?;
        match url.scheme() {
            "http" | "https" | "socks5" | "socks5h" | "socks4" | "socks4a" => Ok(Self { url, variable }),
            _ => Err(format!("{variable} is not the URL of a proxy: its scheme is none of http, https, socks5")),
        }
    }
}

impl Direct {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address without brackets has more than one colon, so its last part is no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => (text, None),
            },
            _ => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let network = |address: &str, bits: Option<&str>| {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
            Some(Hosts::Network(address, bits))
        };
        let hosts = match host.split_once('/') {
            _ if host.is_empty() => return None,
            _ if host == "*" => Hosts::All,
            Some((address, bits)) => network(address, Some(bits))?,
            None => {
                network(host, None).unwrap_or_else(|| match host.strip_prefix('*').unwrap_or(host).strip_prefix('.') {
                    Some(domain) => Hosts::Subdomains(domain.to_ascii_lowercase()),
                    None => Hosts::Domain(host.to_ascii_lowercase()),
                })
            }
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        let below = |name: &str, domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        match (&self.hosts, host) {
            (Hosts::All, _) => true,
            (Hosts::Domain(domain), Host::Domain(name)) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                name == *domain || below(&name, domain)
            }
            (Hosts::Subdomains(domain), Host::Domain(name)) => {
                below(&name.trim_end_matches('.').to_ascii_lowercase(), domain)
            }
            (Hosts::Network(network, bits), Host::Ipv4(address)) => within(IpAddr::V4(*address), *network, *bits),
            (Hosts::Network(network, bits), Host::Ipv6(address)) => within(IpAddr::V6(*address), *network, *bits),
            _ => false,
        }
    }
}

/// Returns whether `address` lies in the network that the first `bits` bits of `network` define.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    // With `bits` = 0, the shift is as wide as the address and `checked_shr` returns None: no bit has to be
    // equal.
    (address ^ network).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(https: Option<&str>, all: Option<&str>, none: &str) -> Proxies {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let settings = ProxySettings { https: text(https), all: text(all), none: text(Some(none)), http: None };
        Proxies::parse(&settings).unwrap()
    }

    fn proxy_of(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.for_url(&Url::parse(url).unwrap()).map(|url| url.to_string())
    }

    #[test]
    fn no_proxy_is_read_as_curl_and_go_read_it() {
        let list = "*.wild.example, .dot.example,plain.example:8443 10.0.0.0/8,[::1:0:0]:9000,fd00::/8,192.168.1.9";
        let proxies = proxies(Some("http://p:3128"), None, list);
        for (url, direct) in [
            ("https://a.wild.example", true),
            ("https://wild.example", false),
            ("https://a.dot.example", true),
            ("https://plain.example:8443", true),
            ("https://sub.PLAIN.example:8443", true),
            ("https://plain.example", false),
            ("https://notplain.example:8443", false),
            ("https://10.255.1.2:9000", true),
            ("https://11.0.0.1", false),
            ("https://192.168.1.9", true),
            ("https://192.168.1.90", false),
            ("https://[fd12::1]", true),
            ("https://[fe80::1]", false),
            ("https://localhost:9000", true),
            ("https://x.localhost", true),
            ("https://127.9.9.9", true),
            ("https://[::1]", true),
        ] {
            assert_eq!(proxy_of(&proxies, url).is_none(), direct, "{url}");
        }
        assert_eq!(proxy_of(&self::proxies(Some("p:1"), None, "*"), "https://1.2.3.4"), None);
        assert!(proxy_of(&self::proxies(Some("p:1"), None, "0.0.0.0/0"), "https://1.2.3.4").is_none());
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_proxy_stands_behind_both() {
        let both = proxies(Some("secure:1"), Some("socks5h://user:canary@all:2"), "");
        assert_eq!(proxy_of(&both, "https://h").as_deref(), Some("http://secure:1/"));
        assert!(proxy_of(&both, "http://h").unwrap().starts_with("socks5h://"));
        let described = both.described(&Url::parse("http://h").unwrap()).unwrap();
        assert_eq!(described, "socks5h://all:2 (ALL_PROXY)");
        for bad in ["http://[canary", "ftp://canary:1", ""] {
            let settings = ProxySettings { https: Some(bad.to_owned()), ..ProxySettings::default() };
            let error = Proxies::parse(&settings).err().unwrap();
            assert!(error.contains("HTTPS_PROXY") && !error.contains("canary"), "{error}");
        }
    }
}
