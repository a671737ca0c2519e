//! What tokens may do, and who asks with one.

use uuid::Uuid;

use crate::id::{AccountId, TokenId};
use crate::store::audit::Actor;
use crate::store::directory::DirectoryError;

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What a token may do (CONTRACT, "Token scopes").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Scope { $($(#[$doc])* $variant,)+ }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word of API and store.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

scopes! {
    /// Sync and reply addresses, users.
    Addresses = "addresses",
    /// Everything.
    Admin = "admin",
    /// Attachments.
    Attachments = "attachments",
    /// The audit trail.
    Audit = "audit",
    /// Contacts and marks.
    Contacts = "contacts",
    /// Events and webhooks.
    Events = "events",
    /// Messages with subject, text and file names.
    MessagesContent = "messages:content",
    /// Messages without them.
    MessagesMeta = "messages:meta",
    /// Erasing.
    Purge = "purge",
    /// The review queue.
    Review = "review",
}

/// The scopes of a token, each once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// From their words.
    ///
    /// # Errors
    /// `Invalid` if there is none, or one is unknown.
    pub fn parse(words: &[String]) -> Result<Self, DirectoryError> {
        let mut scopes = Vec::with_capacity(words.len());
        for (n, word) in words.iter().enumerate() {
            let found = Scope::ALL.iter().find(|scope| scope.as_str() == word);
            scopes.push(*found.ok_or_else(|| {
                DirectoryError::invalid(format!("scopes[{n}]"), "is none of the scopes of this API")
            })?);
        }
        if scopes.is_empty() {
            return Err(DirectoryError::invalid("scopes", "must not be empty"));
        }
        scopes.sort_unstable();
        scopes.dedup();
        Ok(Self(scopes))
    }

    /// `admin` alone.
    pub(super) fn admin() -> Self {
        Self(vec![Scope::Admin])
    }

    /// Whether it is among them, or `admin` is.
    #[must_use]
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }

    /// Their words.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.as_str()).collect()
    }

    pub(super) fn read(stored: &str) -> Self {
        let words: Vec<String> = serde_json::from_str(stored).unwrap_or_default();
        Self(Scope::ALL.iter().copied().filter(|s| words.iter().any(|w| w == s.as_str())).collect())
    }
}

impl From<&[Scope]> for Scopes {
    fn from(scopes: &[Scope]) -> Self {
        Self(scopes.to_vec())
    }
}

/// Who asks: a token that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token.
    pub token: TokenId,
    /// Its account; the operator's for an administrator of all.
    pub account: AccountId,
    /// What it may do there.
    pub scopes: Scopes,
}

impl Principal {
    /// Whoever can open the store on this machine: the administration commands.
    #[must_use]
    pub fn operator() -> Self {
        let scopes = Scopes(vec![Scope::Admin]);
        Self { token: TokenId::from_uuid(Uuid::nil()), account: AccountId::OPERATOR, scopes }
    }

    /// Who that is, for traces: no name of a person.
    #[must_use]
    pub fn described(&self) -> String {
        if self.token.uuid().is_nil() {
            "an administrator at the command line".to_owned()
        } else {
            format!("token {}", self.token)
        }
    }

    /// Who that is in the audit trail (R64).
    #[must_use]
    pub fn actor(&self) -> Actor {
        if self.token.uuid().is_nil() { Actor::Operator } else { Actor::Token(self.token) }
    }

    /// Whether it may do everything in every account.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.account == AccountId::OPERATOR && self.scopes.allow(Scope::Admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_allows_everything_and_the_others_only_themselves() {
        let scopes =
            |words: &[&str]| Scopes::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        let admin = scopes(&["admin"]).unwrap();
        let one = scopes(&["contacts", "contacts"]).unwrap();
        assert_eq!(one.words(), ["contacts"]);
        for scope in Scope::ALL {
            assert!(admin.allow(*scope));
            assert_eq!(one.allow(*scope), *scope == Scope::Contacts);
        }
        assert!(scopes(&[]).is_err());
        assert!(scopes(&["messages"]).is_err());
    }
}
