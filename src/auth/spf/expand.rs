//! SPF macros (RFC 7208 section 7). Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::Identity;
use crate::auth::domain::MAX_OCTETS;

/// Whether a text is a macro-string of a domain-spec or modifier: printable ASCII, every `%` a known macro. The
/// letters `c`, `r` and `t` belong to explanations alone.
pub(super) fn is_macro_string(text: &str) -> bool {
    pieces(text, |_| true)
}

/// Whether the text holds `%{p}`, which costs look-ups.
pub(super) fn wants_client_name(text: &str) -> bool {
    text.contains("%{p") || text.contains("%{P")
}

/// The domain that a domain-spec stands for, cut from the left to the length that a name may have.
pub(super) fn expand(spec: &str, who: &Identity<'_>, domain: &str, client_name: &str) -> String {
    let mut expanded = String::with_capacity(spec.len());
    pieces(spec, |piece| {
        match piece {
            Piece::Macro(found) => found.write(&mut expanded, &value(found.letter, who, domain, client_name)),
            Piece::Text(text) => expanded.push_str(text),
        }
        true
    });
    let mut rest = expanded.strip_suffix('.').unwrap_or(&expanded);
    while rest.len() > MAX_OCTETS {
        rest = rest.split_once('.').map_or("", |(_, shorter)| shorter);
    }
    rest.to_owned()
}

enum Piece<'t> {
    Macro(Macro<'t>),
    Text(&'t str),
}

struct Macro<'t> {
    letter: u8,
    is_escaped: bool,
    /// Parts to keep, counted from the right.
    keep: usize,
    is_reversed: bool,
    delimiters: &'t [u8],
}

/// Calls `take` with each piece; false for what is no macro-string.
fn pieces<'t>(text: &'t str, mut take: impl FnMut(Piece<'t>) -> bool) -> bool {
    if !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return false;
    }
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        if !before.is_empty() && !take(Piece::Text(before)) {
            return false;
        }
        let Some(kind) = after.bytes().next() else { return false };
        let tail = after.get(1..).unwrap_or_default();
        let (piece, next) = match kind {
            b'%' => (Piece::Text("%"), tail),
            b'_' => (Piece::Text(" "), tail),
            b'-' => (Piece::Text("%20"), tail),
            b'{' => match tail.split_once('}').and_then(|(inner, next)| Some((Macro::parse(inner)?, next))) {
                Some((found, next)) => (Piece::Macro(found), next),
                None => return false,
            },
            _ => return false,
        };
        if !take(piece) {
            return false;
        }
        rest = next;
    }
    rest.is_empty() || take(Piece::Text(rest))
}

impl<'t> Macro<'t> {
    fn parse(inner: &'t str) -> Option<Self> {
        let (letter, transform) = inner.as_bytes().split_first()?;
        let lower = letter.to_ascii_lowercase();
        if !b"slodiphv".contains(&lower) {
            return None;
        }
        let digits = transform.iter().take_while(|b| b.is_ascii_digit()).count();
        let (digits, rest) = transform.split_at_checked(digits)?;
        let keep = match std::str::from_utf8(digits).ok()? {
            "" => usize::MAX,
            // More digits than a number holds are more parts than there can be.
            number => number.parse().unwrap_or(usize::MAX),
        };
        let (is_reversed, delimiters) = match rest.split_first() {
            Some((b'r' | b'R', rest)) => (true, rest),
            _ => (false, rest),
        };
        let is_valid = keep > 0 && delimiters.iter().all(|b| b".-+,/_=".contains(b));
        is_valid.then_some(Self {
            letter: lower,
            is_escaped: letter.is_ascii_uppercase(),
            keep,
            is_reversed,
            delimiters: if delimiters.is_empty() { b"." } else { delimiters },
        })
    }

    fn write(&self, out: &mut String, value: &str) {
        let mut parts: Vec<&str> =
            value.split(|c: char| u8::try_from(c).is_ok_and(|b| self.delimiters.contains(&b))).collect();
        if self.is_reversed {
            parts.reverse();
        }
        let skipped = parts.len().saturating_sub(self.keep);
        let joined = parts.get(skipped..).unwrap_or_default().join(".");
        if !self.is_escaped {
            out.push_str(&joined);
            return;
        }
        for byte in joined.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

fn value(letter: u8, who: &Identity<'_>, domain: &str, client_name: &str) -> String {
    match letter {
        b's' => format!("{}@{}", who.local_part, who.domain),
        b'l' => who.local_part.to_owned(),
        b'o' => who.domain.to_owned(),
        b'd' => domain.to_owned(),
        b'i' => dotted(who.ip),
        b'p' => client_name.to_owned(),
        b'h' => who.helo.to_owned(),
        _ => (if who.ip.is_ipv4() { "in-addr" } else { "ip6" }).to_owned(),
    }
}

/// `192.0.2.1`, or 32 nibbles with dots between.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let mut nibbles = String::with_capacity(63);
            for octet in ip.octets() {
                let dot = if nibbles.is_empty() { "" } else { "." };
                let _ = write!(nibbles, "{dot}{:x}.{:x}", octet >> 4, octet & 15);
            }
            nibbles
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_section_7_4_expand_as_printed() {
        let v4 = Identity {
            ip: "192.0.2.3".parse().unwrap(),
            local_part: "strong-bad",
            domain: "email.example.com",
            helo: "mx.example.org",
        };
        let v6 = Identity { ip: "2001:db8::cb01".parse().unwrap(), ..v4 };
        for (spec, who, expected) in [
            ("%{s}", &v4, "strong-bad@email.example.com"),
            ("%{d4}", &v4, "email.example.com"),
            ("%{dr}", &v4, "com.example.email"),
            ("%{d2r}", &v4, "example.email"),
            ("%{lr-}", &v4, "bad.strong"),
            ("%{l1r-}", &v4, "strong"),
            ("%{ir}.%{v}._spf.%{d2}", &v4, "3.2.0.192.in-addr._spf.example.com"),
            ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", &v4, "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
            (
                "%{ir}.%{v}._spf.%{d2}",
                &v6,
                "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com",
            ),
            ("%{S}", &v4, "strong-bad%40email.example.com"),
        ] {
            assert_eq!(expand(spec, who, "email.example.com", "unknown"), expected, "{spec}");
        }
    }

    #[test]
    fn s12_a_name_is_cut_from_the_left_to_what_a_name_may_be() {
        let local_part = format!("{}.{}", "a".repeat(60), "b.".repeat(150));
        let who = Identity {
            ip: "192.0.2.3".parse().unwrap(),
            local_part: &local_part,
            domain: "x.test",
            helo: "h",
        };
        let expanded = expand("%{l}.x.test", &who, "x.test", "unknown");
        assert!(expanded.len() <= MAX_OCTETS && expanded.ends_with(".b..x.test"), "{expanded}");
        for bad in ["%{x}", "%{d0}", "%", "%(d)", "%{d", "a b", "%{t}", "%{dr!}"] {
            assert!(!is_macro_string(bad), "{bad}");
        }
    }
}
