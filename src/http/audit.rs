//! R64: what a request does, as the audit trail says it. A write is noted in its own transaction, a read before it is
//! answered. Paths hold ids alone, so that the trail does.

use axum::http::Method;
use axum::http::request::Parts;
use serde_json::Value;

use crate::http::App;
use crate::http::problem::Answer;
use crate::id::AccountId;
use crate::store::audit::Act;
use crate::store::directory::Principal;
use crate::time::Timestamp;

/// A write that is being done.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// None where it makes an account: its id is in the answer.
    account: Option<AccountId>,
    actor: String,
    action: String,
    object: String,
    /// What is made has its id in the answer.
    makes: bool,
}

/// The account that a path of the API is about.
pub(super) fn account_in(path: &str) -> Option<AccountId> {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    path.strip_prefix("/accounts/")?.split('/').next()?.parse().ok()
}

impl Write {
    /// From method and path. None for a path that is not the API's.
    pub(super) fn of(parts: &Parts, principal: &Principal) -> Option<Self> {
        let path = parts.uri.path();
        let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_matches('/');
        let mut segments: Vec<&str> = path.split('/').collect();
        let (account, segments) = match segments.as_slice() {
            ["accounts"] => (None, Vec::new()),
            ["accounts", account, ..] => (Some(account.parse().ok()?), segments.split_off(2)),
            [_, ..] => (Some(principal.account), segments),
            [] => return None,
        };
        let object = segments.join("/");
        let (object, verb) = match object.rsplit_once(':') {
            Some((object, verb)) if !verb.contains('/') => (object.to_owned(), Some(verb.to_owned())),
            Some(_) | None => (object, None),
        };
        let action = verb.clone().unwrap_or_else(|| verb_of(&parts.method).to_owned());
        let makes = verb.is_none() && parts.method == Method::POST && segments.len() == 1;
        let object = if object.is_empty() { "account".to_owned() } else { object };
        Some(Self { account, actor: principal.actor().to_string(), action, object, makes })
    }

    /// It concerns this account, whatever the path says.
    pub(super) const fn about(mut self, account: AccountId) -> Self {
        self.account = Some(account);
        self
    }

    /// As the trail says it, now that the answer is known.
    pub(super) fn act(self, answer: &str) -> Option<Act> {
        let made = || -> Option<String> {
            let answer: Value = serde_json::from_str(answer).ok()?;
            Some(answer.get("id")?.as_str()?.to_owned())
        };
        let (account, object) = match self.account {
            None => (made()?.parse().ok()?, self.object),
            Some(account) if self.makes => {
                let id = made().map(|id| format!("/{id}")).unwrap_or_default();
                (account, format!("{}{id}", self.object))
            }
            Some(account) => (account, self.object),
        };
        let at = Timestamp::now();
        Some(Act { account, at, actor: self.actor, action: self.action, object, detail: None })
    }
}

impl App {
    /// Writes down that content is read; only then it may be shown. `object` is its path below the account.
    pub(super) async fn note_read(
        &self,
        principal: &Principal,
        account: AccountId,
        object: String,
        detail: Option<Value>,
    ) -> Answer<()> {
        let act = Act {
            account,
            at: Timestamp::now(),
            actor: principal.actor().to_string(),
            action: "read".to_owned(),
            object,
            detail,
        };
        Ok(self.store.note(vec![act]).await?)
    }
}

fn verb_of(method: &Method) -> &'static str {
    match method.as_str() {
        "DELETE" => "delete",
        "PATCH" => "change",
        "POST" => "create",
        "PUT" => "set",
        _ => "do",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, path: &str, answer: &str, action: &str, object: &str) {
        let request = axum::http::Request::builder().method(method).uri(path).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        let act = Write::of(&parts, &Principal::operator()).unwrap().act(answer).unwrap();
        assert_eq!((act.action.as_str(), act.object.as_str()), (action, object), "{method} {path}");
        assert_eq!(act.actor, "operator");
    }

    #[test]
    fn r64_a_write_says_what_it_does_to_what() {
        let account = "/api/v1/accounts/0192f0c1-2345-7abc-8def-0123456789ab";
        check("POST", &format!("{account}/contacts"), r#"{"id":"7"}"#, "create", "contacts/7");
        check("POST", &format!("{account}/contacts:import"), "{}", "import", "contacts");
        check("POST", &format!("{account}/users/3/emails"), r#"{"id":"3"}"#, "create", "users/3/emails");
        check("POST", &format!("{account}/users/3/sync:rotate"), r#"{"id":"3"}"#, "rotate", "users/3/sync");
        check("POST", &format!("{account}/held/3:file"), r#"{"id":"3"}"#, "file", "held/3");
        check("PUT", &format!("{account}/contacts/3/sync/4"), "{}", "set", "contacts/3/sync/4");
        check("PATCH", account, "{}", "change", "account");
        check("DELETE", "/tokens/3", "", "delete", "tokens/3");
        let made = r#"{"id":"0192f0c1-2345-7abc-8def-0123456789ab"}"#;
        check("POST", "/api/v1/accounts", made, "create", "account");
    }
}
