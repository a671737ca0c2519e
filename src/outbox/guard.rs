//! Which addresses a webhook may be sent to (SSRF): those of the public internet, looked up and checked at each call.
//!
//! Promises that nothing is connected to but an address that was checked in that very look-up: the HTTP client asks
//! this guard, not the system (a name that moves to 127.0.0.1 after it was checked gains nothing). Where
//! `webhook.allow_private` is set, every address may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config;

/// The guard; cheap to clone.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    allow_private: bool,
    /// The configured servers; none for the system's way.
    resolver: Option<TokioResolver>,
    timeout: Duration,
}

/// Why nothing may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// Every address of the name is on loopback, a private or another special network.
    #[error("the address is not on the public internet")]
    NotPublic,
    /// The name has no address, or the look-up failed.
    #[error("the name could not be resolved")]
    Unresolved,
}

impl Guard {
    /// # Errors
    /// If the resolver cannot be set up.
    pub(super) fn new(dns: &config::Dns, webhook: config::Webhook) -> std::io::Result<Self> {
        let resolver = if dns.servers.is_empty() { None } else { Some(resolver(dns)?) };
        Ok(Self(Arc::new(Rules { allow_private: webhook.allow_private, resolver, timeout: dns.timeout })))
    }

    /// Passes a URL whose host has an address that may be called.
    pub(super) async fn check(&self, url: &Url) -> Result<(), Refusal> {
        // The parser has brought every spelling of an address (`0x7f.1`, `2130706433`) into its own form.
        let host = url.host_str().ok_or(Refusal::Unresolved)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(ip) => self.permitted(vec![ip]).map(|_| ()),
            Err(_) => self.look_up(host).await.map(|_| ()),
        }
    }

    /// The addresses of a name that may be called, at least one.
    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        let found = tokio::time::timeout(self.0.timeout, self.resolve(host)).await;
        let found = found.map_err(|_| Refusal::Unresolved)??;
        if found.is_empty() {
            return Err(Refusal::Unresolved);
        }
        self.permitted(found)
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Refusal> {
        match &self.0.resolver {
            Some(resolver) => {
                // A dot at the end: no search list.
                let name = format!("{}.", host.trim_end_matches('.'));
                let found = resolver.lookup_ip(name).await.map_err(|_| Refusal::Unresolved)?;
                Ok(found.iter().take(ADDRESSES_MAX).collect())
            }
            None => {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|_| Refusal::Unresolved)?;
                Ok(found.map(|address| address.ip()).take(ADDRESSES_MAX).collect())
            }
        }
    }

    fn permitted(&self, mut found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refusal> {
        found.retain(|ip| self.0.allow_private || is_public(*ip));
        if found.is_empty() { Err(Refusal::NotPublic) } else { Ok(found) }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.look_up(name.as_str()).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

fn resolver(dns: &config::Dns) -> std::io::Result<TokioResolver> {
    let servers = dns.servers.iter().map(|server| {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (server.port(), server.port());
        NameServerConfig::new(server.ip(), true, vec![udp, tcp])
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.attempts = 1;
    options.timeout = dns.timeout / 2;
    options.use_hosts_file = ResolveHosts::Never;
    // Endpoints move; mail servers do not care.
    options.positive_max_ttl = Some(REMEMBERED);
    options.negative_max_ttl = Some(NOTHING_REMEMBERED);
    builder.build().map_err(std::io::Error::other)
}

/// Whether an address is one of the public internet. What is in doubt is not (IANA special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|(network, bits)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        ip.to_bits() & mask == Ipv4Addr::from_octets(*network).to_bits()
    })
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    match segments {
        // ::/96 (loopback, unspecified, IPv4-compatible) and ::ffff:0:0/96 (IPv4-mapped): a kernel may take them for
        // IPv4.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        // ::ffff:0:0:0/96 (IPv4-translated).
        | [0, 0, 0, 0, 0xffff, 0, ..]
        // NAT64, well-known and local: leads to any IPv4 address.
        | [0x64, 0xff9b, ..]
        // Teredo and the other assignments of the IETF (ORCHID, benchmarking).
        | [0x2001, 0..=0x1ff, ..]
        // Documentation.
        | [0x2001, 0xdb8, ..]
        // 6to4: leads to any IPv4 address.
        | [0x2002, ..]
        | [0x3fff, 0..=0xfff, ..] => false,
        // Global unicast; all else (unique local, link-local, multicast, segment routing, reserved) is not public.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Network and prefix length.
const NOT_PUBLIC_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),        // "this network"
    ([10, 0, 0, 0], 8),       // private
    ([100, 64, 0, 0], 10),    // carrier-grade NAT; metadata services of some clouds
    ([127, 0, 0, 0], 8),      // loopback
    ([168, 63, 129, 16], 32), // metadata of Azure
    ([169, 254, 0, 0], 16),   // link-local; metadata of most clouds
    ([172, 16, 0, 0], 12),    // private
    ([192, 0, 0, 0], 24),     // IETF assignments; metadata of Oracle's cloud
    ([192, 0, 2, 0], 24),     // documentation
    ([192, 88, 99, 0], 24),   // 6to4 relays
    ([192, 168, 0, 0], 16),   // private
    ([198, 18, 0, 0], 15),    // benchmarking
    ([198, 51, 100, 0], 24),  // documentation
    ([203, 0, 113, 0], 24),   // documentation
    ([224, 0, 0, 0], 3),      // multicast, reserved, broadcast
];

/// How long an answer holds at most: a look-up at each call is then one every few seconds.
const REMEMBERED: Duration = Duration::from_secs(5);
const NOTHING_REMEMBERED: Duration = Duration::from_secs(1);
/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn only_addresses_of_the_public_internet_may_be_called() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:200::1",
        ] {
            check(public, true);
        }
        for not_public in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.255.255",
            "198.19.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
        ] {
            check(not_public, false);
        }
    }

    #[tokio::test]
    async fn every_spelling_of_a_loopback_address_in_a_url_is_refused() {
        let guard = Guard::new(&config::Dns::default(), config::Webhook::default()).unwrap();
        for text in [
            "https://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::ffff:127.0.0.1]:8443/x",
            "http://0/",
            "http://①②⑦.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(guard.check(&url).await, Err(Refusal::NotPublic), "{text}");
        }
        let open = Guard::new(&config::Dns::default(), config::Webhook { allow_private: true }).unwrap();
        assert_eq!(open.check(&Url::parse("https://127.0.0.1/").unwrap()).await, Ok(()));
        assert_eq!(guard.check(&Url::parse("https://8.8.8.8/").unwrap()).await, Ok(()));
    }
}
