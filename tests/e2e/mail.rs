//! Mails and their senders.

use std::net::{IpAddr, Ipv4Addr};

use syncmx::cli::demo::sign::{Algorithm, Signer};

/// Where a mail comes from, and what proves it. All stand in the demo's zone.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) client: IpAddr,
    pub(crate) helo: &'static str,
    pub(crate) mail_from: &'static str,
    pub(crate) dkim: Option<(&'static str, &'static str, Algorithm)>,
}

impl Sender {
    pub(crate) fn sign(&self, raw: &[u8]) -> Vec<u8> {
        match self.dkim {
            Some((domain, selector, algorithm)) => {
                Signer::new(domain, selector, algorithm).unwrap().sign(raw).unwrap()
            }
            None => raw.to_vec(),
        }
    }
}

/// Dr. Lena Albrecht's mail host: SPF and DKIM, p=reject.
pub(crate) const LENA: Sender = Sender {
    client: host(20),
    helo: "mail-ed1-f41.google-mail.test",
    mail_from: "lena.albrecht@praxis-morgenrot.test",
    dkim: Some(("praxis-morgenrot.test", "google", Algorithm::Rsa)),
};

/// Anna Bergmann's mail service: SPF and Ed25519, p=quarantine.
pub(crate) const ANNA: Sender = Sender {
    client: host(40),
    helo: "mx.web-post.test",
    mail_from: "anna.bergmann@web-post.test",
    dkim: Some(("web-post.test", "s2026", Algorithm::Ed25519)),
};

/// Anna's mail through the forwarding filter of Lena's mailbox: SPF is the forwarder's, DKIM is Anna's.
pub(crate) const ANNA_FORWARDED: Sender = Sender {
    client: host(21),
    helo: "mail-ed1-f52.google-mail.test",
    mail_from: "lena.albrecht+caf_=auto@praxis-morgenrot.test",
    dkim: ANNA.dkim,
};

/// Somebody whose SPF passes for a domain of their own, and nothing else.
pub(crate) const FORGER: Sender =
    Sender { client: host(66), helo: "dsl-66.irgendwo.test", mail_from: "info@irgendwo.test", dkim: None };

const fn host(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// A plain mail. Its Message-ID is made of `id`.
pub(crate) struct Draft<'a> {
    pub(crate) id: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) text: &'a str,
    /// Further fields, each with CRLF.
    pub(crate) fields: &'a str,
}

impl Default for Draft<'_> {
    /// Lena writes to Anna.
    fn default() -> Self {
        Self {
            id: "1",
            from: "Dr. Lena Albrecht <lena.albrecht@praxis-morgenrot.test>",
            to: "Anna Bergmann <anna.bergmann@web-post.test>",
            subject: "Your appointment",
            text: "Dear Anna,\r\n\r\nsee you on Thursday.\r\n\r\nLena\r\n",
            fields: "",
        }
    }
}

impl Draft<'_> {
    pub(crate) fn raw(&self) -> Vec<u8> {
        let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
        format!(
            "From: {}\r\nTo: {}\r\n{}Subject: {}\r\nDate: {date}\r\nMessage-ID: <{}@e2e.test>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}",
            self.from, self.to, self.fields, self.subject, self.id, self.text
        )
        .into_bytes()
    }
}
