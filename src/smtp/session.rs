//! The dialogue of one connection (RFC 5321 section 4): bytes and answers in, steps out.
//!
//! Promises: replies in order, gathered until the client is waited for (RFC 2920); one question open at a time;
//! a transaction is one value and goes as a whole; nothing learned in clear survives STARTTLS; the reply after the
//! last byte of a message is the handler's. However the input is cut, replies, questions and bodies are the same
//! (STARTTLS apart). No sockets, clocks or look-ups: the driver does one step, reports back, and asks again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::address::EmailAddress;
use crate::smtp::command::Command;
use crate::smtp::line::{Line, LineReader};
use crate::smtp::tally::{Tally, Verdict};
use crate::smtp::transaction::{AfterMessage, Phase, Transaction};
use crate::smtp::{BodyDefect, Client, Hindrance, Recipient, RecipientAnswer, Reply, Unserved, reply};

pub use crate::smtp::step::{CloseReason, Load, Room, Settings, Stage, Step, TlsPolicy};

/// Transactions in one session (RFC 9422 MAILMAX).
pub const MAX_MAILS: u32 = 1000;

/// One connection's dialogue.
#[derive(Debug)]
pub struct Session {
    pub(super) settings: Arc<Settings>,
    pub(super) client: Client,
    pub(super) phase: Phase,
    pub(super) input: BytesMut,
    pub(super) lines: LineReader,
    pub(super) replies: Vec<u8>,
    pub(super) exchanges: u64,
    pub(super) mails: u32,
    pub(super) lifetime: Lifetime,
    pub(super) room: Room,
    pub(super) load: Load,
    pub(super) tls_room: Room,
    pub(super) tally: Tally,
    /// Something of this transaction was refused for now, or was too large: what a client that pipelines has sent behind
    /// it stands in the wrong order by our doing.
    pub(super) is_put_off: bool,
    /// To be made before the replies go out.
    pub(super) pause: Option<Duration>,
    pub(super) body: Holding,
    pub(super) body_octets: u64,
}

/// Whether the driver keeps octets of a body for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    Nothing,
    Something,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    Draining,
    Open,
}

#[derive(Clone, Copy)]
enum Greeted {
    Ehlo,
    Helo,
}

impl Session {
    /// A session that begins with our banner.
    #[must_use]
    pub fn new(settings: Arc<Settings>, ip: IpAddr) -> Self {
        let mut session = Self::fresh(settings, ip);
        let banner = format!("220 {} ESMTP syncmx\r\n", session.settings.hostname);
        session.replies.extend_from_slice(banner.as_bytes());
        session
    }

    fn fresh(settings: Arc<Settings>, ip: IpAddr) -> Self {
        Self {
            settings,
            client: Client { ip, helo: String::new(), is_esmtp: false, tls: None },
            phase: Phase::Greeting,
            input: BytesMut::new(),
            lines: LineReader::default(),
            replies: Vec::new(),
            exchanges: 0,
            mails: 0,
            lifetime: Lifetime::Open,
            room: Room::Enough,
            load: Load::Calm,
            tls_room: Room::Enough,
            tally: Tally::default(),
            is_put_off: false,
            pause: None,
            body: Holding::Nothing,
            body_octets: 0,
        }
    }

    /// What to do next.
    pub fn next_step(&mut self) -> Step {
        loop {
            // Row S16: whatever became of the transaction, what was kept of it is given back at once.
            if self.body == Holding::Something && !self.phase.wants_body(self.settings.max_message_bytes) {
                self.body = Holding::Nothing;
                return Step::DropBody;
            }
            // A client that pipelines commands without end does not make us hoard replies.
            if self.replies.len() >= REPLY_BATCH_OCTETS {
                return self.pause_or_send();
            }
            if let Some(step) = self.advance() {
                return step;
            }
        }
    }

    /// The client sent this.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        if matches!(self.stage(), Stage::Body | Stage::RefusedChunk) {
            self.exchanges += 1;
        }
    }

    /// The answer to [`Step::AskRecipient`]. An answer that nobody asked for ends the session.
    pub fn answer_recipient(&mut self, answer: RecipientAnswer) {
        let Phase::RecipientAsked(mut transaction, path) = self.take_phase() else { return };
        let answered = match answer {
            RecipientAnswer::Accepted(mailbox) => {
                transaction.recipients.push(Recipient { path, mailbox });
                reply::RECIPIENT_OK
            }
            RecipientAnswer::Refused(refusal) => {
                transaction.refused_recipients += 1;
                if refusal.code == 421 {
                    return self.close_unserved(*transaction, refusal, CloseReason::Refused);
                }
                // Row S15: whoever tries out addresses does not get to try many. Row S2: each answer is a look-up.
                let (verdict, reason) = if refusal.code >= 500 {
                    (self.tally.unknown_recipient(self.load), CloseReason::Harvesting)
                } else {
                    (self.tally.refusal(self.load), CloseReason::TooManyErrors)
                };
                if verdict == Verdict::Spent {
                    let last = Reply { trace: refusal.trace, ..reply::TOO_MANY_ERRORS };
                    return self.close_unserved(*transaction, last, reason);
                }
                if refusal.code >= 400 { refusal } else { reply::STORE_UNAVAILABLE }
            }
        };
        self.phase = Phase::InTransaction(transaction);
        self.say_or_close(&answered, AfterMessage::Continue);
    }

    /// The answer to [`Step::AskMessage`]: the reply after the last byte. An answer that nobody asked for ends the
    /// session.
    pub fn answer_message(&mut self, answer: Reply) {
        let Phase::MessageAsked(defect, after) = self.take_phase() else { return };
        let answer = final_reply(answer, defect);
        if answer.code < 300 {
            self.tally = Tally::default();
        }
        self.phase = Phase::Ready;
        self.say_or_close(&answer, after);
    }

    /// The answer to [`Step::AskTrace`]: the same reply, with a trace id or without.
    pub fn answer_trace(&mut self, answer: &Reply) {
        let Phase::TraceAsked(after, closing) = self.take_phase() else { return };
        match closing {
            Some(reason) => self.close(answer, reason),
            // A recipient over the limit has been counted, and a message counts against MAILMAX.
            None if answer.code < 500 => {
                self.say(answer);
                self.phase = *after;
            }
            None => (self.phase, _) = self.stay(*after, answer),
        }
    }

    /// The handshake is done: RFC 3207 section 4.2, the session begins anew with what TLS says.
    pub fn tls_started(&mut self, protocol_and_suite: String) {
        let (lifetime, room, load) = (self.lifetime, self.room, self.load);
        *self = Self::fresh(Arc::clone(&self.settings), self.client.ip);
        self.client.tls = Some(protocol_and_suite);
        (self.lifetime, self.room, self.load) = (lifetime, room, load);
    }

    /// The body could not be kept: the message is read to its end and answered with this, 4yz.
    pub fn refuse_body(&mut self, refusal: Reply) {
        match &mut self.phase {
            Phase::BetweenChunks(transaction, _)
            | Phase::ReadingChunk(transaction, _)
            | Phase::ReadingData(transaction, _) => {
                transaction.refusal = Some(refusal);
                self.body = Holding::Nothing;
            }
            Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::InTransaction(_)
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::RecipientAsked(..)
            | Phase::Refused
            | Phase::StartingTls
            | Phase::SwallowingChunk(..)
            | Phase::TraceAsked(..)
            | Phase::TraceDue(..) => {}
        }
    }

    /// The client spoke before our banner (row A4): it gets no banner, and nothing that it said is read.
    pub fn talked_early(&mut self) {
        self.replies.clear();
        self.close(&reply::TALKED_EARLY, CloseReason::TalkedEarly);
    }

    /// The client's network is not served at all (row A3, RFC 5321 section 3.1): it may leave, and nothing else.
    pub fn refuse_service(&mut self) {
        self.replies.clear();
        self.say(&reply::NO_SERVICE);
        self.phase = Phase::Refused;
    }

    /// The client was silent for [`Self::read_timeout`], or too slow all in all.
    pub fn timed_out(&mut self) {
        self.close(&reply::TIMED_OUT, CloseReason::TimedOut);
    }

    /// The server stops: `421 4.3.2` as soon as no message is on its way.
    pub const fn shut_down(&mut self) {
        self.lifetime = Lifetime::Draining;
    }

    /// Whether there is room for another message, as of now.
    pub const fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Whether there is room for another TLS handshake, as of now (row X11).
    pub const fn set_tls_room(&mut self, room: Room) {
        self.tls_room = room;
    }

    /// How busy the server is, as of now.
    pub const fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// What the client is in the middle of.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self.phase {
            Phase::BetweenChunks(..) => Stage::BetweenChunks,
            Phase::ReadingChunk(..) | Phase::ReadingData(..) => Stage::Body,
            Phase::SwallowingChunk(..) => Stage::RefusedChunk,
            Phase::InTransaction(_) | Phase::RecipientAsked(..) => Stage::Envelope,
            Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::Refused
            | Phase::StartingTls
            | Phase::TraceAsked(..)
            | Phase::TraceDue(..) => Stage::NoTransaction,
        }
    }

    /// How many transactions have been begun: the number of the last one.
    #[must_use]
    pub const fn mails(&self) -> u32 {
        self.mails
    }

    /// Octets of messages that have come so far, kept or not. Commands between chunks are none.
    #[must_use]
    pub const fn body_octets(&self) -> u64 {
        self.body_octets
    }

    /// How long to wait for the client in [`Step::Receive`], from when [`Self::exchanges`] last changed.
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        let calm = match self.stage() {
            Stage::Body | Stage::RefusedChunk => self.settings.data_timeout,
            Stage::BetweenChunks | Stage::Envelope | Stage::NoTransaction => self.settings.command_timeout,
        };
        match self.load {
            Load::Calm => calm,
            Load::Stressed => calm.min(self.settings.stressed_timeout),
        }
    }

    /// Changes when the client has done what it was waited for: a whole command, or a block of a message. Half a
    /// command changes nothing, so that the timeout of a command is absolute.
    #[must_use]
    pub const fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The reverse-path of the open transaction, if there is one.
    #[must_use]
    pub fn reverse_path(&self) -> Option<&EmailAddress> {
        match &self.phase {
            Phase::BetweenChunks(transaction, _)
            | Phase::InTransaction(transaction)
            | Phase::ReadingChunk(transaction, _)
            | Phase::ReadingData(transaction, _)
            | Phase::RecipientAsked(transaction, _) => transaction.reverse_path.as_ref(),
            Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::Refused
            | Phase::StartingTls
            | Phase::SwallowingChunk(..)
            | Phase::TraceAsked(..)
            | Phase::TraceDue(..) => None,
        }
    }

    fn advance(&mut self) -> Option<Step> {
        match self.take_phase() {
            phase @ (Phase::BetweenChunks(..)
            | Phase::Greeting
            | Phase::InTransaction(_)
            | Phase::Ready
            | Phase::Refused) => self.read_command(phase),
            Phase::ReadingData(transaction, reader) => self.read_data(transaction, reader),
            Phase::ReadingChunk(transaction, chunk) => self.read_chunk(transaction, chunk),
            Phase::SwallowingChunk(before, remaining, refusal) => self.swallow(before, remaining, refusal),
            Phase::StartingTls => self.wait(Phase::StartingTls, Step::StartTls),
            Phase::TraceDue(unserved, reason) => {
                self.phase = Phase::TraceAsked(Box::new(Phase::Ready), Some(reason));
                Some(Step::AskTrace(unserved))
            }
            Phase::Closing(reason) if self.replies.is_empty() => {
                self.wait(Phase::Closed(reason), Step::Close(reason))
            }
            phase @ (Phase::Closed(reason) | Phase::Closing(reason)) => self.wait(phase, Step::Close(reason)),
            phase @ (Phase::MessageAsked(..) | Phase::RecipientAsked(..) | Phase::TraceAsked(..)) => {
                self.wait(phase, Step::Close(CloseReason::Abandoned))
            }
        }
    }

    fn read_command(&mut self, phase: Phase) -> Option<Step> {
        // Row S3: a TLS ClientHello where SMTP is spoken in clear. No line end may ever come.
        if matches!(phase, Phase::Greeting) && self.lines.is_at_line_start_with(&self.input, TLS_HANDSHAKE) {
            self.close(&reply::NOT_SMTP, CloseReason::OtherProtocol);
            return None;
        }
        let command = match self.lines.next_line(&mut self.input) {
            Some(Line::Complete(line)) => Command::parse(&line),
            Some(Line::TooLong(verb)) => Command::unread(&verb, reply::LINE_TOO_LONG),
            None => return self.wait_for_command(phase),
        };
        self.exchanges += 1;
        let (phase, step) = self.obey(phase, command);
        self.phase = phase;
        step
    }

    fn wait_for_command(&mut self, phase: Phase) -> Option<Step> {
        match (self.lifetime, &phase) {
            // A message whose chunks have begun to come is finished first.
            (Lifetime::Draining, Phase::BetweenChunks(..)) | (Lifetime::Open, _) => {
                self.wait(phase, Step::Receive)
            }
            (Lifetime::Draining, _) => {
                self.close(&reply::SHUTTING_DOWN, CloseReason::ShuttingDown);
                None
            }
        }
    }

    /// Every transition that a command makes.
    fn obey(&mut self, phase: Phase, command: Command) -> (Phase, Option<Step>) {
        use {Command as C, Phase as P};
        match (phase, command) {
            (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready, C::Ehlo(name)) => {
                self.greet(name, Greeted::Ehlo)
            }
            (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready, C::Helo(name)) => {
                self.greet(name, Greeted::Helo)
            }
            (P::Ready, C::Mail(mail)) => self.mail(mail),
            (P::InTransaction(transaction), C::Rcpt(path)) => self.recipient(transaction, path),
            (P::InTransaction(transaction), C::Data) => self.data(transaction),
            (P::InTransaction(transaction), C::Bdat(size_bytes, position)) => {
                self.first_chunk(transaction, size_bytes, position)
            }
            (P::BetweenChunks(transaction, before_bytes), C::Bdat(size_bytes, position)) => {
                self.next_chunk(transaction, before_bytes, size_bytes, position)
            }
            (phase @ (P::Greeting | P::Ready), C::Bdat(size_bytes, _)) => {
                self.refuse_chunk(phase, size_bytes, reply::BAD_SEQUENCE)
            }
            (phase @ (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_)), C::Mail(_))
            | (phase @ (P::BetweenChunks(..) | P::Greeting | P::Ready), C::Rcpt(_) | C::Data)
            | (phase @ P::BetweenChunks(..), C::StartTls) => self.stay(phase, &reply::BAD_SEQUENCE),
            (phase @ (P::Greeting | P::InTransaction(_) | P::Ready), C::StartTls) => self.start_tls(phase),
            (P::Refused, command) => self.obey_refused(&command),
            (phase @ P::Greeting, C::Rset) => self.idle(phase, &reply::RESET_OK),
            (P::BetweenChunks(..) | P::InTransaction(_) | P::Ready, C::Rset) => {
                self.idle(P::Ready, &reply::RESET_OK)
            }
            (P::InTransaction(transaction), C::RefusedRecipient(reply)) => {
                self.refused_recipient(transaction, &reply)
            }
            (
                phase @ (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready),
                C::Replied(reply) | C::RefusedRecipient(reply),
            ) => self.idle(phase, &reply),
            (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready, C::Quit) => {
                self.leave(&reply::BYE, CloseReason::Quit)
            }
            (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready, C::OtherProtocol) => {
                self.leave(&reply::NOT_SMTP, CloseReason::OtherProtocol)
            }
            (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready, C::UncountedChunk) => {
                self.leave(&reply::BAD_ARGUMENT, CloseReason::UncountedChunk)
            }
            // In these phases no line is read.
            (
                phase @ (P::Closed(_)
                | P::Closing(_)
                | P::MessageAsked(..)
                | P::ReadingChunk(..)
                | P::ReadingData(..)
                | P::RecipientAsked(..)
                | P::StartingTls
                | P::SwallowingChunk(..)
                | P::TraceAsked(..)
                | P::TraceDue(..)),
                _unread,
            ) => (phase, None),
        }
    }

    /// Row A3: of a client that is not served, QUIT alone is obeyed.
    fn obey_refused(&mut self, command: &Command) -> (Phase, Option<Step>) {
        use Command as C;
        match command {
            C::Quit => self.leave(&reply::BYE, CloseReason::Quit),
            C::Bdat(size_bytes, _) => self.refuse_chunk(Phase::Refused, *size_bytes, reply::BAD_SEQUENCE),
            C::OtherProtocol => self.leave(&reply::NOT_SMTP, CloseReason::OtherProtocol),
            C::UncountedChunk => self.leave(&reply::BAD_ARGUMENT, CloseReason::UncountedChunk),
            C::Data
            | C::Ehlo(_)
            | C::Helo(_)
            | C::Mail(_)
            | C::Rcpt(_)
            | C::RefusedRecipient(_)
            | C::Replied(_)
            | C::Rset
            | C::StartTls => self.stay(Phase::Refused, &reply::BAD_SEQUENCE),
        }
    }

    /// RFC 5321 section 4.1.4: EHLO and HELO clear what was open.
    fn greet(&mut self, name: String, greeted: Greeted) -> (Phase, Option<Step>) {
        if self.tally.idle_command(self.load) == Verdict::Spent {
            return self.leave(&reply::TOO_MANY_ERRORS, CloseReason::TooManyErrors);
        }
        self.client.helo = name;
        self.client.is_esmtp = matches!(greeted, Greeted::Ehlo);
        let answer = match greeted {
            Greeted::Ehlo => self.extensions(),
            Greeted::Helo => format!("250 {}\r\n", self.settings.hostname),
        };
        self.replies.extend_from_slice(answer.as_bytes());
        (Phase::Ready, None)
    }

    fn extensions(&self) -> String {
        let Settings { hostname, max_message_bytes, max_recipients, tls, .. } = self.settings.as_ref();
        let security = match (&self.client.tls, tls) {
            (Some(_), _) => "250-REQUIRETLS\r\n",
            (None, TlsPolicy::Offered | TlsPolicy::Required) => "250-STARTTLS\r\n",
            (None, TlsPolicy::Unavailable) => "",
        };
        format!(
            "250-{hostname}\r\n250-PIPELINING\r\n250-SIZE {max_message_bytes}\r\n{security}250-8BITMIME\r\n\
             250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n\
             250 LIMITS RCPTMAX={max_recipients} MAILMAX={MAX_MAILS}\r\n"
        )
    }

    fn start_tls(&mut self, phase: Phase) -> (Phase, Option<Step>) {
        if self.client.tls.is_some() {
            return self.stay(phase, &reply::BAD_SEQUENCE);
        }
        if self.settings.tls == TlsPolicy::Unavailable || self.tls_room == Room::Scarce {
            return self.stay(phase, &reply::TLS_UNAVAILABLE);
        }
        // CVE-2011-0411: commands that wait in our buffer would be taken for the client's own, inside TLS.
        if !self.input.is_empty() {
            return self.leave(&reply::INPUT_BEHIND_STARTTLS, CloseReason::InputBehindStartTls);
        }
        self.stay(Phase::StartingTls, &reply::START_TLS)
    }

    /// Before a step that waits for the client or leaves it, everything we have said goes out.
    pub(super) fn wait(&mut self, phase: Phase, step: Step) -> Option<Step> {
        self.phase = phase;
        if !self.replies.is_empty() {
            return Some(self.pause_or_send());
        }
        if self.input.is_empty() {
            // An idle session holds no buffer.
            self.input = BytesMut::new();
        }
        Some(step)
    }

    fn pause_or_send(&mut self) -> Step {
        match self.pause.take() {
            Some(pause) => Step::Pause(pause),
            None => Step::Send(std::mem::take(&mut self.replies).into()),
        }
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        self.is_put_off |= (400..500).contains(&reply.code) || reply.code == reply::TOO_LARGE.code;
        self.replies.extend(sendable(&reply.line()));
    }

    /// Answers and goes on; a refusal counts, as a mistake if it is one.
    pub(super) fn stay(&mut self, phase: Phase, reply: &Reply) -> (Phase, Option<Step>) {
        // A message that is too large is no mistake of the dialogue, nor what a client has pipelined behind a refusal.
        let is_too_large = reply.code == reply::TOO_LARGE.code;
        let behind = [reply::BAD_SEQUENCE.code, reply::NO_VALID_RECIPIENTS.code];
        let follows = self.is_put_off && behind.contains(&reply.code);
        let is_mistake = reply.code >= 500 && !is_too_large && !follows;
        let verdict = if is_mistake {
            self.tally.error(self.load)
        } else if reply.code >= 400 {
            self.tally.refusal(self.load)
        } else {
            Verdict::Fine
        };
        self.weigh(verdict, phase, reply)
    }

    /// Answers a command that brings no mail nearer.
    pub(super) fn idle(&mut self, phase: Phase, reply: &Reply) -> (Phase, Option<Step>) {
        if reply.code >= 500 {
            return self.stay(phase, reply);
        }
        let verdict = self.tally.idle_command(self.load);
        self.weigh(verdict, phase, reply)
    }

    fn weigh(&mut self, verdict: Verdict, phase: Phase, reply: &Reply) -> (Phase, Option<Step>) {
        match verdict {
            Verdict::Fine => {}
            Verdict::Slow => {
                let pause = self.pause.unwrap_or_default() + self.settings.error_pause;
                self.pause = Some(pause.min(MAX_PAUSE));
            }
            Verdict::Spent => return self.leave(&reply::TOO_MANY_ERRORS, CloseReason::TooManyErrors),
        }
        self.say(reply);
        (phase, None)
    }

    pub(super) fn leave(&mut self, reply: &Reply, reason: CloseReason) -> (Phase, Option<Step>) {
        self.say(reply);
        (Phase::Closing(reason), None)
    }

    pub(super) fn close(&mut self, reply: &Reply, reason: CloseReason) {
        self.say(reply);
        self.phase = Phase::Closing(reason);
    }

    /// Ends a session whose open transaction has recipients of ours already: each of them leaves a trace (R3).
    fn close_unserved(&mut self, transaction: Transaction, reply: Reply, reason: CloseReason) {
        (self.phase, _) = self.leave_unserved(transaction, reply, reason);
    }

    /// The same, as the answer to a command.
    pub(super) fn leave_unserved(
        &mut self,
        transaction: Transaction,
        reply: Reply,
        reason: CloseReason,
    ) -> (Phase, Option<Step>) {
        let Transaction { reverse_path, recipients, .. } = transaction;
        if recipients.is_empty() {
            return self.leave(&reply, reason);
        }
        let recipients = recipients.into_iter().map(|recipient| recipient.path).collect();
        let unserved = Unserved { reverse_path, recipients, cause: Hindrance::SessionSpent, reply };
        (Phase::TraceDue(Box::new(unserved), reason), None)
    }

    /// Says what the handler answered; a 421 closes (RFC 5321 section 3.8).
    pub(super) fn say_or_close(&mut self, reply: &Reply, after: AfterMessage) {
        match after {
            AfterMessage::Close(reason) => self.close(reply, reason),
            AfterMessage::Continue if reply.code == 421 => self.close(reply, CloseReason::Refused),
            AfterMessage::Continue => self.say(reply),
        }
    }

    const fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Closed(CloseReason::Abandoned))
    }
}

/// A message whose body we threw away cannot have been accepted, whatever the handler says.
fn final_reply(answer: Reply, defect: Option<BodyDefect>) -> Reply {
    let is_kept = answer.code < 300;
    match defect {
        Some(BodyDefect::BareNewline | BodyDefect::Empty) if is_kept => {
            Reply { trace: answer.trace, ..reply::BAD_SYNTAX }
        }
        Some(BodyDefect::TooLarge) if is_kept => Reply { trace: answer.trace, ..reply::TOO_LARGE },
        Some(BodyDefect::BareNewline | BodyDefect::Empty | BodyDefect::TooLarge) | None => {
            match answer.code {
                200..=299 | 400..=599 => answer,
                _ => reply::STORE_UNAVAILABLE,
            }
        }
    }
}

/// Row S7: whatever a reply was made of, it is one line of printable ASCII of at most 512 octets.
fn sendable(line: &str) -> impl Iterator<Item = u8> + '_ {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    line.chars()
        .map(printable)
        .filter_map(|c| u8::try_from(c).ok())
        .take(MAX_REPLY_OCTETS - 2)
        .chain(*b"\r\n")
}

/// RFC 5321 section 4.5.3.1.5, CRLF included.
const MAX_REPLY_OCTETS: usize = 512;
const REPLY_BATCH_OCTETS: usize = 4096;
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The first octet of a TLS record that begins a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
