//! Who asks, and what they may do: bearer tokens and the walls between accounts (R4).
//!
//! Another account's things answer 404 exactly as things that do not exist; a missing scope in one's own account 403.

use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::App;
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::directory::{Principal, Scope};

/// Lets a request pass with its [`Principal`], or answers 401 or 429.
pub(super) async fn authenticate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Answer<Response> {
    // Only a caller in this process can bring a principal along: the administration commands.
    if request.extensions().get::<Principal>().is_some() {
        return Ok(next.run(request).await);
    }
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(bearer).filter(|token| token.len() <= TOKEN_MAX_OCTETS);
    let token = token.ok_or_else(Problem::unauthorized)?;
    let principal = app.store.authenticate(token).await?.ok_or_else(Problem::unauthorized)?;
    if !app.rate.take(principal.token, Instant::now()) {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "the token makes too many requests"));
    }
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Answer<Self> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthorized)
    }
}

impl App {
    /// Passes whoever has one of these scopes in this account.
    pub(super) async fn enter(
        &self,
        principal: &Principal,
        account: AccountId,
        any_of: &[Scope],
    ) -> Answer<()> {
        // What belongs to no account is no account.
        if account == AccountId::OPERATOR {
            return Err(Problem::not_found("account"));
        }
        if principal.is_operator() {
            let found = self.store.account(account).await?;
            return found.map(|_| ()).ok_or_else(|| Problem::not_found("account"));
        }
        let is_everywhere = principal.account == AccountId::OPERATOR;
        if principal.account != account && !is_everywhere {
            return Err(Problem::not_found("account"));
        }
        if is_everywhere && self.store.account(account).await?.is_none() {
            return Err(Problem::not_found("account"));
        }
        if any_of.iter().any(|scope| principal.scopes.allow(*scope)) {
            return Ok(());
        }
        let words: Vec<_> = any_of.iter().map(|scope| scope.as_str()).collect();
        Err(Problem::forbidden(&words.join(" or ")))
    }
}

impl App {
    /// The same, to look only; and an operator may look at what belongs to no account: mail to postmaster and abuse
    /// (RFC 5321 section 4.5.1), and what was refused before it had a mailbox.
    pub(super) async fn enter_to_look(
        &self,
        principal: &Principal,
        account: AccountId,
        any_of: &[Scope],
    ) -> Answer<()> {
        if account == AccountId::OPERATOR && principal.is_operator() {
            return Ok(());
        }
        self.enter(principal, account, any_of).await
    }
}

/// How much of messages a token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Everything but what is for review alone (R27a).
    Content,
    /// The same shapes; text, subject and file names null.
    Meta,
    /// Everything.
    Review,
}

impl Shown {
    pub(super) fn to(principal: &Principal) -> Self {
        match (principal.scopes.allow(Scope::MessagesContent), principal.scopes.allow(Scope::Review)) {
            (true, true) => Self::Review,
            (true, false) => Self::Content,
            (false, _) => Self::Meta,
        }
    }

    pub(super) fn content(self, text: String) -> Option<String> {
        match self {
            Self::Content | Self::Review => Some(text),
            Self::Meta => None,
        }
    }
}

/// A token given by `SYNCMX_ADMIN_TOKEN` may be longer than ours.
const TOKEN_MAX_OCTETS: usize = 1024;

/// RFC 6750 section 2.1; the scheme in any case (RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
