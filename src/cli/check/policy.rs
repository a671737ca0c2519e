//! Fetches the MTA-STS policy as a sender does (RFC 8461 section 3.3): HTTPS with a certificate that holds, no
//! redirect, and compares it with the one that we serve.

use std::net::SocketAddr;

use crate::auth::{NoAnswer, Probe};
use crate::cli::check::PATIENCE;
use crate::cli::check::names::{ASK_OTHERS, UNANSWERED};
use crate::cli::check::report::Line;
use crate::cli::one_line;
use crate::mta_sts::{self, Policy};
use crate::time::Timestamp;

/// What came of it.
pub(super) struct Fetched {
    pub(super) line: Line,
    /// The time that the web server told.
    pub(super) date: Option<Timestamp>,
}

pub(super) async fn check(probe: &Probe, policy: &Policy, domain: &str, https_port: u16) -> Fetched {
    let host = mta_sts::host(domain);
    let without_date = |line| Fetched { line, date: None };
    let red = |said: String, mend: String| Line::red("mta-sts-policy", domain, said, mend);
    let addresses = match probe.addresses(&host).await {
        Ok(addresses) => addresses,
        Err(NoAnswer::Nothing) => {
            let mend = format!("publish {host} as an alias of the host that serves HTTPS (syncmx dns)");
            return without_date(red(format!("{host} has no address"), mend));
        }
        Err(NoAnswer::ForNow) => return without_date(red(UNANSWERED.to_owned(), ASK_OTHERS.to_owned())),
    };
    let addresses: Vec<SocketAddr> =
        addresses.into_iter().map(|ip| SocketAddr::new(ip, https_port)).collect();
    let url = format!("https://{host}:{https_port}{}", mta_sts::PATH);
    match fetch(&url, &host, &addresses).await {
        Err(error) => {
            let said = format!("{url}: {}", one_line(&error));
            let mend = format!(
                "let the TLS proxy serve {host} with a certificate for it, and pass it to http.listen with its Host field"
            );
            without_date(red(said, mend))
        }
        Ok(answer) => {
            let line = if answer.status != 200 {
                let mend = format!("let the TLS proxy pass {host} to http.listen with its Host field");
                red(format!("{url}: HTTP {}", answer.status), mend)
            } else if same(&answer.text, policy.text()) {
                Line::ok("mta-sts-policy", domain, format!("{url} serves the policy"))
            } else {
                let mend =
                    "restart syncmx if tls.mta_sts or smtp.hostname has changed, and empty the proxy's cache";
                red(format!("{url} serves another policy"), mend.to_owned())
            };
            Fetched { line, date: answer.date }
        }
    }
}

struct Answer {
    status: u16,
    date: Option<Timestamp>,
    text: String,
}

async fn fetch(url: &str, host: &str, addresses: &[SocketAddr]) -> reqwest::Result<Answer> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .resolve_to_addrs(host, addresses)
        .timeout(PATIENCE)
        .build()?;
    let mut answer = client.get(url).send().await?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).and_then(http_date);
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let room = MAX_OCTETS - text.len();
        text.extend(chunk.iter().take(room));
        if text.len() == MAX_OCTETS {
            break;
        }
    }
    Ok(Answer { status: answer.status().as_u16(), date, text: String::from_utf8_lossy(&text).into_owned() })
}

/// RFC 9110 section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    let civil = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S GMT", text).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

/// Line ends may change on the way.
fn same(one: &str, other: &str) -> bool {
    one.trim_end().lines().map(str::trim_end).eq(other.trim_end().lines().map(str::trim_end))
}

pub(super) const HTTPS_PORT: u16 = 443;
/// RFC 8461 section 3.2 lets senders stop at 64 KB.
const MAX_OCTETS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read_and_line_ends_do_not_matter() {
        let date = http_date("Sun, 22 Nov 2026 02:44:05 GMT").map(Timestamp::to_rfc3339);
        assert_eq!(date.as_deref(), Some("2026-11-22T02:44:05.000Z"));
        assert_eq!(http_date("yesterday"), None);
        assert!(same("a: 1\nb: 2\n", "a: 1\r\nb: 2\r\n"));
        assert!(!same("a: 1\r\n", "a: 2\r\n"));
    }
}
