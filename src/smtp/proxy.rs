//! The PROXY protocol, versions 1 and 2: the client's address in front of a connection that a balancer passes on.
//!
//! Read only from the networks that the configuration trusts, and then required. Promises that a header is never
//! longer than [`MAX_OCTETS`], that only TCP over IPv4 or IPv6 names a client, and that LOCAL (a health check)
//! leaves the balancer's own address in place.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest header that is read; version 1 ends at 107 octets, version 2 has room for what balancers add.
pub const MAX_OCTETS: usize = 2048;

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Not all of it has come.
    Incomplete,
    /// No header, or one that names nobody we can serve: the connection is closed.
    Invalid,
    /// A header of so many octets.
    Read(usize, Source),
}

/// Who is behind the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This client.
    Client(IpAddr),
    /// The balancer itself, looking whether we are alive.
    Local,
}

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u128,
    mask: u128,
}

impl Header {
    /// Reads the front of `input`.
    #[must_use]
    pub fn parse(input: &[u8]) -> Self {
        if is_prefix_of(input, V2_SIGNATURE) {
            return version_2(input);
        }
        if is_prefix_of(input, b"PROXY ") {
            return version_1(input);
        }
        Self::Invalid
    }
}

/// Reads a header from the stream, within the time given. Returns who is there, and what came behind the header.
///
/// # Errors
/// If there is no valid header in time, or the stream fails.
pub(super) async fn read_header<S: AsyncRead + Unpin>(
    stream: &mut S,
    patience: Duration,
) -> io::Result<(Source, Vec<u8>)> {
    let reading = async {
        let mut input = Vec::with_capacity(128);
        loop {
            match Header::parse(&input) {
                Header::Incomplete => {}
                Header::Invalid => return Err(io::ErrorKind::InvalidData.into()),
                Header::Read(length, source) => return Ok((source, input.split_off(length))),
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    tokio::time::timeout(patience, reading).await?
}

/// Whether what has come so far agrees with the expected beginning.
fn is_prefix_of(input: &[u8], beginning: &[u8]) -> bool {
    input.iter().zip(beginning).all(|(came, expected)| came == expected)
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 25` CRLF
fn version_1(input: &[u8]) -> Header {
    let within = input.get(..V1_MAX_OCTETS).unwrap_or(input);
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < V1_MAX_OCTETS { Header::Incomplete } else { Header::Invalid };
    };
    let Some(Ok(line)) = input.get(..end).map(std::str::from_utf8) else { return Header::Invalid };
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(Source::Local),
        ["PROXY", "TCP4", source, destination, from, to] => {
            tcp::<Ipv4Addr>(source, destination, [from, to]).map(|ip| Source::Client(IpAddr::V4(ip)))
        }
        ["PROXY", "TCP6", source, destination, from, to] => tcp::<Ipv6Addr>(source, destination, [from, to])
            .map(|ip| Source::Client(IpAddr::V6(ip).to_canonical())),
        _ => None,
    };
    source.map_or(Header::Invalid, |source| Header::Read(end + 2, source))
}

fn tcp<A: std::str::FromStr>(source: &str, destination: &str, ports: [&str; 2]) -> Option<A> {
    destination.parse::<A>().ok()?;
    if ports.iter().any(|port| port.parse::<u16>().is_err()) {
        return None;
    }
    source.parse().ok()
}

fn version_2(input: &[u8]) -> Header {
    let Some((&[command, family, high, low], body)) =
        input.get(V2_SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return Header::Incomplete;
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    let length = V2_SIGNATURE.len() + 4 + announced;
    if length > MAX_OCTETS {
        return Header::Invalid;
    }
    let Some(body) = body.get(..announced) else { return Header::Incomplete };
    let source = match (command, family) {
        (0x20, _) => Some(Source::Local),
        (0x21, 0x11) if announced >= 12 => {
            body.first_chunk().map(|octets: &[u8; 4]| Source::Client(IpAddr::V4((*octets).into())))
        }
        (0x21, 0x21) if announced >= 36 => body
            .first_chunk()
            .map(|octets: &[u8; 16]| Source::Client(IpAddr::V6((*octets).into()).to_canonical())),
        _ => None,
    };
    source.map_or(Header::Invalid, |source| Header::Read(length, source))
}

impl Network {
    /// Reads `192.0.2.0/24`, `2001:db8::/32` or a bare address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, width) = match text.split_once('/') {
            Some((ip, width)) => (ip, Some(width.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().ok()?;
        let (most, offset) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
        let width = width.unwrap_or(most);
        if width > most {
            return None;
        }
        let mask = u128::MAX.checked_shl(128 - offset - width).unwrap_or(0);
        Some(Self { base: bits(ip) & mask, mask })
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        bits(ip) & self.mask == self.base
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The protocol's document, section 2.1.
const V1_MAX_OCTETS: usize = 107;
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, announced: u16, body: &[u8]) -> Vec<u8> {
        [V2_SIGNATURE, &[command, family], &announced.to_be_bytes(), body].concat()
    }

    #[track_caller]
    fn check(input: &[u8], expected: Header) {
        assert_eq!(Header::parse(input), expected, "{}", input.escape_ascii());
        if let Header::Read(length, _) = expected {
            for cut in 0..length {
                assert_eq!(Header::parse(&input[..cut]), Header::Incomplete, "cut at {cut}");
            }
        }
    }

    fn client(ip: &str) -> Source {
        Source::Client(ip.parse().unwrap())
    }

    #[test]
    fn both_versions_name_the_client() {
        check(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\nEHLO", Header::Read(44, client("192.0.2.1")));
        check(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", Header::Read(41, client("2001:db8::1")));
        check(
            &v2(0x21, 0x11, 12, b"\xc0\x00\x02\x01\xc6\x33\x64\x01\0\0\0\0"),
            Header::Read(28, client("192.0.2.1")),
        );
        let six = [&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 24]].concat();
        check(&v2(0x21, 0x21, 40, &six), Header::Read(56, client("2001:db8::1")));
    }

    #[test]
    fn s5_local_and_unknown_are_health_checks() {
        check(b"PROXY UNKNOWN\r\n", Header::Read(15, Source::Local));
        check(&v2(0x20, 0, 0, b""), Header::Read(16, Source::Local));
    }

    #[test]
    fn s5_what_names_nobody_is_invalid() {
        let mut long = b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2".to_vec();
        long.resize(107, b' ');
        for bad in [
            &b"EHLO x\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 99999 25\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 25\r\n",
            b"PROXY TCP4  192.0.2.1 198.51.100.1 1 25\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 25\r\n",
            &long,
            &v2(0x21, 0x31, 216, &[0; 216]),
            &v2(0x21, 0x12, 12, &[0; 12]),
            &v2(0x21, 0x11, 11, &[0; 11]),
            &v2(0x31, 0x11, 12, &[0; 12]),
            &v2(0x21, 0x11, 65_535, &[]),
        ] {
            check(bad, Header::Invalid);
        }
    }

    #[test]
    fn a_header_of_the_limit_is_read_and_one_octet_more_is_not() {
        let most = u16::try_from(MAX_OCTETS - 16).unwrap();
        let body = vec![0; usize::from(most) + 1];
        check(&v2(0x21, 0x11, most, &body[..usize::from(most)]), Header::Read(MAX_OCTETS, client("0.0.0.0")));
        check(&v2(0x21, 0x11, most + 1, &body), Header::Invalid);
    }

    #[test]
    fn s5_a_line_of_107_octets_is_read_and_one_of_108_is_not() {
        for (octets, is_read) in [(107, true), (108, false)] {
            let mut line = b"PROXY UNKNOWN ".to_vec();
            line.resize(octets - 2, b'f');
            line.extend_from_slice(b"\r\n");
            check(&line, if is_read { Header::Read(octets, Source::Local) } else { Header::Invalid });
        }
        let six = "2001:0db8:ffff:ffff:ffff:ffff:ffff:ffff";
        let line = format!("PROXY TCP6 {six} {six} 65535 65535\r\n");
        check(line.as_bytes(), Header::Read(line.len(), client(six)));
    }

    #[test]
    fn networks_hold_what_cidr_says() {
        let holds = |network: &str, ip: &str| Network::parse(network).unwrap().contains(ip.parse().unwrap());
        assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && holds("::/0", "2001:db8::1"));
        assert!(!holds("2001:db8::1", "2001:db8::2"));
        for bad in ["192.0.2.0/33", "::/129", "x", "192.0.2.0/", "/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
