//! A handler that knows its answers by the address and remembers what it was asked.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use syncmx::address::{EmailAddress, Mailbox, UserMailbox};
use syncmx::id::{AccountId, UserId};
use syncmx::smtp::session::Room;
use syncmx::smtp::{
    Body, BodyDefect, Client, Envelope, ForwardPath, Handler, Noting, RecipientAnswer, Reply, Unserved, reply,
};

/// What it was asked, in order.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) recipients: Mutex<Vec<String>>,
    /// As the `M:` lines of a dialogue file.
    pub(crate) messages: Mutex<Vec<Vec<u8>>>,
    pub(crate) clients: Mutex<Vec<Client>>,
    /// The cause, and for whom.
    pub(crate) traces: Mutex<Vec<String>>,
    /// How often it was asked about a recipient whose refusal may leave a trace, if it is a guess; and if it is not.
    pub(crate) noted_guesses: AtomicUsize,
    pub(crate) noted_others: AtomicUsize,
}

impl Recorder {
    pub(crate) fn judge_recipient(&self, path: &ForwardPath) -> RecipientAnswer {
        self.recipients.lock().unwrap().push(shown(path));
        let ForwardPath::Address(address) = path else {
            return RecipientAnswer::Accepted(Mailbox::Postmaster);
        };
        let domain = address.domain().to_ascii_lowercase();
        let local = address.local_part().to_ascii_lowercase();
        if domain != "sync.example.test" || local.contains(['%', '!']) {
            return RecipientAnswer::Refused(reply::RELAY_DENIED);
        }
        match local.as_str() {
            "postmaster" | "abuse" => RecipientAnswer::Accepted(Mailbox::Postmaster),
            "unknown" => RecipientAnswer::Refused(reply::UNKNOWN_ADDRESS),
            "off" => RecipientAnswer::Refused(reply::ADDRESS_OFF),
            "down" => RecipientAnswer::Refused(reply::STORE_UNAVAILABLE),
            "panic" => panic!("the handler panics, as asked"),
            _ => {
                let mailbox = UserMailbox { account: AccountId::OPERATOR, user: UserId::generate() };
                RecipientAnswer::Accepted(Mailbox::Sync(mailbox))
            }
        }
    }

    /// Remembers whom and why; the reply stays as it is, so that it reads the same each time.
    pub(crate) fn leave_trace(&self, unserved: Unserved) -> Reply {
        let to: Vec<String> = unserved.recipients.iter().map(shown).collect();
        self.traces.lock().unwrap().push(format!("{:?} to={}", unserved.cause, to.join(",")));
        unserved.reply
    }

    pub(crate) fn judge_message(&self, envelope: Envelope, body: &[u8]) -> Reply {
        let mut line = match &envelope.reverse_path {
            Some(address) => format!("from=<{address}>"),
            None => "from=<>".to_owned(),
        };
        let to: Vec<String> = envelope.recipients.iter().map(|recipient| shown(&recipient.path)).collect();
        line.push_str(&format!(" to={}", to.join(",")));
        if envelope.requiretls {
            line.push_str(" requiretls");
        }
        if envelope.smtputf8 {
            line.push_str(" smtputf8");
        }
        line.push_str(match envelope.defect {
            Some(BodyDefect::BareNewline) => " bare-newline",
            Some(BodyDefect::Empty) => " empty",
            Some(BodyDefect::TooLarge) => " too-large",
            None => "",
        });
        line.push_str(" body=");
        self.messages.lock().unwrap().push([line.as_bytes(), body].concat());
        self.clients.lock().unwrap().push(envelope.client);
        let local = envelope.reverse_path.as_ref().map_or("", EmailAddress::local_part);
        match (envelope.defect, local) {
            // Row for the promise: whatever the handler says, a message without its body is not accepted.
            (Some(_), "credulous") | (None, "") => reply::MESSAGE_ACCEPTED,
            (Some(BodyDefect::BareNewline | BodyDefect::Empty), _) => reply::BAD_SYNTAX,
            (Some(BodyDefect::TooLarge), _) => reply::TOO_LARGE,
            (None, "refused") => reply::BAD_FROM,
            (None, "deferred") => reply::LOOKUP_FAILED,
            (None, "injecting") => Reply::new(550, "5.7.1", "two\r\n250 lines\u{1b}[31m \u{fc}"),
            (None, "panic") => panic!("the handler panics, as asked"),
            (None, _) => reply::MESSAGE_ACCEPTED,
        }
    }
}

impl Handler for Recorder {
    async fn recipient(
        &self,
        _client: &Client,
        _reverse_path: Option<&EmailAddress>,
        path: &ForwardPath,
        noting: Noting,
    ) -> RecipientAnswer {
        if noting.guesses == Room::Enough {
            self.noted_guesses.fetch_add(1, Ordering::Relaxed);
        }
        if noting.others == Room::Enough {
            self.noted_others.fetch_add(1, Ordering::Relaxed);
        }
        if shown(path).starts_with("<hang@") {
            std::future::pending::<()>().await;
        }
        self.judge_recipient(path)
    }

    async fn message(&self, envelope: Envelope, body: Body) -> Reply {
        if envelope.reverse_path.as_ref().is_some_and(|address| address.local_part() == "hang") {
            std::future::pending::<()>().await;
        }
        let received = body.read(None).await.unwrap();
        self.judge_message(envelope, received.as_bytes())
    }

    async fn unserved(&self, _client: &Client, unserved: Unserved) -> Reply {
        self.leave_trace(unserved)
    }
}

fn shown(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Address(address) => format!("<{address}>"),
        ForwardPath::Postmaster => "<postmaster>".to_owned(),
    }
}
