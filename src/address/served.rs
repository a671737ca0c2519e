//! The domains we serve, and which kind of mailbox a path asks for.

use crate::address::EmailAddress;
use crate::address::token::{ReplyToken, TokenText};
use crate::smtp::ForwardPath;

/// The served domains, lower case.
#[derive(Clone, Debug)]
pub struct ServedDomains {
    sync: Vec<String>,
    reply: Vec<String>,
}

/// What a path asks for, before the store has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A sync address with `+auto`: look its local part up.
    Auto(String),
    /// A domain that we do not serve: `550 5.7.1`.
    Foreign,
    /// `postmaster` or `abuse`.
    Postmaster,
    /// A reply address: verify the token, then look its conversation up.
    Reply(TokenText),
    /// Perhaps a sync address: look its local part (lower case, without subaddress) up.
    Sync(String),
    /// Ours by domain, but no address of any shape that we make: `550 5.1.1`.
    Unknown,
}

impl ServedDomains {
    /// From the configuration, lower case.
    #[must_use]
    pub const fn new(sync: Vec<String>, reply: Vec<String>) -> Self {
        Self { sync, reply }
    }

    /// Every served domain, once.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        let mut all = self.sync.clone();
        all.extend(self.reply.iter().filter(|domain| !self.sync.contains(domain)).cloned());
        all
    }

    /// Every domain of sync addresses.
    #[must_use]
    pub fn sync_domains(&self) -> &[String] {
        &self.sync
    }

    /// The domain of new sync addresses.
    #[must_use]
    pub fn sync_domain(&self) -> &str {
        self.sync.first().map_or("", String::as_str)
    }

    /// The domain of new reply addresses.
    #[must_use]
    pub fn reply_domain(&self) -> &str {
        self.reply.first().map_or("", String::as_str)
    }

    /// Which kind of mailbox the path asks for (CONTRACT, "Addresses").
    #[must_use]
    pub fn classify(&self, path: &ForwardPath) -> Asked {
        match path {
            ForwardPath::Address(address) => self.classify_address(address),
            ForwardPath::Postmaster => Asked::Postmaster,
        }
    }

    fn classify_address(&self, address: &EmailAddress) -> Asked {
        let domain = address.domain().to_lowercase();
        let (is_sync, is_reply) = (self.sync.contains(&domain), self.reply.contains(&domain));
        if !is_sync && !is_reply {
            return Asked::Foreign;
        }
        let local = address.local_part().to_lowercase();
        if is_foreign_route(&local) {
            return Asked::Foreign;
        }
        if local == "postmaster" || local == "abuse" {
            return Asked::Postmaster;
        }
        if is_reply && let Some(text) = ReplyToken::text_of(&local) {
            return Asked::Reply(text);
        }
        if !is_sync {
            return Asked::Unknown;
        }
        match local.split_once('+') {
            None => Asked::Sync(local),
            Some((base, "auto")) => Asked::Auto(base.to_owned()),
            // Another subaddress is a spelling of the sync address that some clients make; it is harmless.
            Some((base, _)) => Asked::Sync(base.to_owned()),
        }
    }
}

/// `user%other@us` and `us!user` ask us to relay (SMTP C18).
fn is_foreign_route(local: &str) -> bool {
    local.contains('%') || local.contains('!')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &Asked) {
        let served =
            ServedDomains::new(vec!["sync.example.test".to_owned()], vec!["reply.example.test".to_owned()]);
        let address = EmailAddress::parse(path).expect("a valid address");
        assert_eq!(&served.classify(&ForwardPath::Address(address)), expected, "{path}");
    }

    #[test]
    fn a_path_is_told_by_domain_and_shape_in_any_case() {
        check("Ana-0123456789ab@SYNC.example.test", &Asked::Sync("ana-0123456789ab".to_owned()));
        check("ana-0123456789ab+AUTO@sync.example.test", &Asked::Auto("ana-0123456789ab".to_owned()));
        check("ana-0123456789ab+x@sync.example.test", &Asked::Sync("ana-0123456789ab".to_owned()));
        check("PostMaster@reply.example.test", &Asked::Postmaster);
        check("abuse@sync.example.test", &Asked::Postmaster);
        check("nobody@reply.example.test", &Asked::Unknown);
        check("ana@elsewhere.test", &Asked::Foreign);
        check("ana%elsewhere.test@sync.example.test", &Asked::Foreign);
    }
}
