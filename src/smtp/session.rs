//! The dialogue of one connection (RFC 5321 section 4): bytes and answers in, steps out.
//!
//! Promises: replies in order, gathered until the client is waited for (RFC 2920); one question open at a time;
//! a transaction is one value and goes as a whole; nothing learned in clear survives STARTTLS; the reply after the
//! last byte of a message is the handler's. However the input is cut, replies, questions and bodies are the same
//! (STARTTLS apart). No sockets, clocks or look-ups: the driver does one step, reports back, and asks again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::address::EmailAddress;
use crate::smtp::command::{Command, Mail};
use crate::smtp::data::{Chunk, ChunkPosition, DataReader, FLOOD_FACTOR, Progress, take_counted};
use crate::smtp::line::{Line, LineReader};
use crate::smtp::{BodyDefect, Client, Envelope, ForwardPath, Recipient, RecipientAnswer, Reply, reply};

/// What all sessions of a listener share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name in the banner and in the answer to EHLO.
    pub hostname: String,
    /// The largest message in octets.
    pub max_message_bytes: u64,
    /// Recipients of one transaction.
    pub max_recipients: usize,
    /// How long the next command may take.
    pub command_timeout: Duration,
    /// How long the next block of a message may take.
    pub data_timeout: Duration,
    /// STARTTLS.
    pub tls: TlsPolicy,
}

/// What is said about STARTTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// Offered, and mail is taken without it.
    Offered,
    /// MAIL without it is refused.
    Required,
    /// There is no certificate.
    Unavailable,
}

/// What the driver is to do next.
#[derive(Debug)]
pub enum Step {
    /// Add to the body.
    Append(Bytes),
    /// Ask the handler for the fate of the message, then [`Session::answer_message`].
    AskMessage(Box<Envelope>),
    /// Ask the handler, then [`Session::answer_recipient`].
    AskRecipient(ForwardPath),
    /// Close the connection. Nothing follows.
    Close(CloseReason),
    /// Wait for the client, then [`Session::receive`].
    Receive,
    /// Send to the client.
    Send(Bytes),
    /// Begin an empty body; whatever was there before is of no interest any more.
    StartBody,
    /// Do the handshake, then [`Session::tls_started`].
    StartTls,
}

/// Why a session was closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The driver did not answer a question.
    Abandoned,
    /// Far more octets than the size limit.
    Flooded,
    /// Commands behind STARTTLS.
    InputBehindStartTls,
    /// HTTP, SSH and the like.
    OtherProtocol,
    /// QUIT.
    Quit,
    /// The handler answered 421.
    Refused,
    /// The server is stopping.
    ShuttingDown,
    /// The client was silent.
    TimedOut,
    /// More transactions than MAILMAX.
    TooManyMails,
    /// A chunk whose size cannot be read.
    UncountedChunk,
}

/// Whether there is room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Enough,
    /// MAIL is answered `452 4.3.1`.
    Scarce,
}

/// Transactions in one session (RFC 9422 MAILMAX).
pub const MAX_MAILS: u32 = 1000;

/// One connection's dialogue.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    client: Client,
    phase: Phase,
    input: BytesMut,
    lines: LineReader,
    replies: Vec<u8>,
    exchanges: u64,
    mails: u32,
    lifetime: Lifetime,
    room: Room,
}

#[derive(Debug)]
enum Phase {
    /// The client has not said who it is.
    Greeting,
    /// It has; no transaction is open.
    Ready,
    /// After MAIL.
    InTransaction(Box<Transaction>),
    /// A recipient is being looked up.
    RecipientAsked(Box<Transaction>, ForwardPath),
    /// After 354.
    ReadingData(Box<Transaction>, DataReader),
    /// Behind BDAT.
    ReadingChunk(Box<Transaction>, Chunk),
    /// After a chunk that was not the last; so many octets have come.
    BetweenChunks(Box<Transaction>, u64),
    /// Behind a BDAT that is refused: its octets are no commands. Then the reply, and back to the phase before.
    SwallowingChunk(Box<Self>, u64, Reply),
    /// The handler has the message.
    MessageAsked(Option<BodyDefect>, AfterMessage),
    /// 220 is out, or on its way.
    StartingTls,
    /// Nothing more is read.
    Closing(CloseReason),
    /// The driver has been told.
    Closed(CloseReason),
}

/// What stands between MAIL and the end of the message.
#[derive(Debug)]
struct Transaction {
    reverse_path: Option<EmailAddress>,
    smtputf8: bool,
    recipients: Vec<Recipient>,
    refused_recipients: usize,
    /// Why the body could not be kept, if so: our trouble, not the client's.
    refusal: Option<Reply>,
}

#[derive(Clone, Copy, Debug)]
enum AfterMessage {
    Close(CloseReason),
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifetime {
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
        }
    }

    /// What to do next.
    pub fn next_step(&mut self) -> Step {
        loop {
            // A client that pipelines commands without end does not make us hoard replies.
            if self.replies.len() >= REPLY_BATCH_OCTETS {
                return self.send();
            }
            if let Some(step) = self.advance() {
                return step;
            }
        }
    }

    /// The client sent this.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        match self.phase {
            Phase::ReadingChunk(..) | Phase::ReadingData(..) | Phase::SwallowingChunk(..) => {
                self.exchanges += 1
            }
            Phase::BetweenChunks(..)
            | Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::InTransaction(_)
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::RecipientAsked(..)
            | Phase::StartingTls => {}
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
        self.phase = Phase::Ready;
        self.say_or_close(&final_reply(answer, defect), after);
    }

    /// The handshake is done: RFC 3207 section 4.2, the session begins anew with what TLS says.
    pub fn tls_started(&mut self, protocol_and_suite: String) {
        let (lifetime, room) = (self.lifetime, self.room);
        *self = Self::fresh(Arc::clone(&self.settings), self.client.ip);
        self.client.tls = Some(protocol_and_suite);
        (self.lifetime, self.room) = (lifetime, room);
    }

    /// The body could not be kept: the message is read to its end and answered with this, 4yz.
    pub fn refuse_body(&mut self, refusal: Reply) {
        match &mut self.phase {
            Phase::BetweenChunks(transaction, _)
            | Phase::ReadingChunk(transaction, _)
            | Phase::ReadingData(transaction, _) => transaction.refusal = Some(refusal),
            Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::InTransaction(_)
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::RecipientAsked(..)
            | Phase::StartingTls
            | Phase::SwallowingChunk(..) => {}
        }
    }

    /// The client was silent for [`Self::read_timeout`].
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

    /// How long to wait for the client in [`Step::Receive`], from when [`Self::exchanges`] last changed.
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        match self.phase {
            Phase::ReadingChunk(..) | Phase::ReadingData(..) | Phase::SwallowingChunk(..) => {
                self.settings.data_timeout
            }
            Phase::BetweenChunks(..)
            | Phase::Closed(_)
            | Phase::Closing(_)
            | Phase::Greeting
            | Phase::InTransaction(_)
            | Phase::MessageAsked(..)
            | Phase::Ready
            | Phase::RecipientAsked(..)
            | Phase::StartingTls => self.settings.command_timeout,
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
            | Phase::StartingTls
            | Phase::SwallowingChunk(..) => None,
        }
    }

    fn advance(&mut self) -> Option<Step> {
        match self.take_phase() {
            phase @ (Phase::BetweenChunks(..) | Phase::Greeting | Phase::InTransaction(_) | Phase::Ready) => {
                self.read_command(phase)
            }
            Phase::ReadingData(transaction, reader) => self.read_data(transaction, reader),
            Phase::ReadingChunk(transaction, chunk) => self.read_chunk(transaction, chunk),
            Phase::SwallowingChunk(before, remaining, refusal) => self.swallow(before, remaining, refusal),
            Phase::StartingTls => self.wait(Phase::StartingTls, Step::StartTls),
            Phase::Closing(reason) if self.replies.is_empty() => {
                self.wait(Phase::Closed(reason), Step::Close(reason))
            }
            phase @ (Phase::Closed(reason) | Phase::Closing(reason)) => self.wait(phase, Step::Close(reason)),
            phase @ (Phase::MessageAsked(..) | Phase::RecipientAsked(..)) => {
                self.wait(phase, Step::Close(CloseReason::Abandoned))
            }
        }
    }

    fn read_command(&mut self, phase: Phase) -> Option<Step> {
        let command = match self.lines.next_line(&mut self.input) {
            Some(Line::Complete(line)) => Command::parse(&line),
            Some(Line::TooLong) => Command::Replied(reply::LINE_TOO_LONG),
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
                (P::ReadingChunk(transaction, Chunk::new(before_bytes, size_bytes, position)), None)
            }
            (phase @ (P::Greeting | P::Ready), C::Bdat(size_bytes, _)) => {
                self.refuse_chunk(phase, size_bytes, reply::BAD_SEQUENCE)
            }
            (phase @ (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_)), C::Mail(_))
            | (phase @ (P::BetweenChunks(..) | P::Greeting | P::Ready), C::Rcpt(_) | C::Data)
            | (phase @ P::BetweenChunks(..), C::StartTls) => self.stay(phase, &reply::BAD_SEQUENCE),
            (phase @ (P::Greeting | P::InTransaction(_) | P::Ready), C::StartTls) => self.start_tls(phase),
            (phase @ P::Greeting, C::Rset) => self.stay(phase, &reply::RESET_OK),
            (P::BetweenChunks(..) | P::InTransaction(_) | P::Ready, C::Rset) => {
                self.stay(P::Ready, &reply::RESET_OK)
            }
            (
                phase @ (P::BetweenChunks(..) | P::Greeting | P::InTransaction(_) | P::Ready),
                C::Replied(reply),
            ) => self.stay(phase, &reply),
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
                | P::SwallowingChunk(..)),
                _unread,
            ) => (phase, None),
        }
    }

    /// RFC 5321 section 4.1.4: EHLO and HELO clear what was open.
    fn greet(&mut self, name: String, greeted: Greeted) -> (Phase, Option<Step>) {
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

    fn mail(&mut self, mail: Mail) -> (Phase, Option<Step>) {
        let Mail { reverse_path, parameters } = mail;
        let is_clear = self.client.tls.is_none();
        let is_ascii = reverse_path.as_ref().is_none_or(|address| address.as_str().is_ascii());
        if is_clear && self.settings.tls == TlsPolicy::Required {
            return self.stay(Phase::Ready, &reply::TLS_REQUIRED);
        }
        if self.mails >= MAX_MAILS {
            return self.leave(&reply::TOO_MANY_MAILS, CloseReason::TooManyMails);
        }
        // RFC 8689 section 2: only offered inside TLS.
        if is_clear && parameters.requiretls {
            return self.stay(Phase::Ready, &reply::UNKNOWN_PARAMETER);
        }
        if !is_ascii && !parameters.smtputf8 {
            return self.stay(Phase::Ready, &reply::SENDER_NEEDS_SMTPUTF8);
        }
        if parameters.size_bytes.is_some_and(|size| size > self.settings.max_message_bytes) {
            return self.stay(Phase::Ready, &reply::TOO_LARGE);
        }
        if self.room == Room::Scarce {
            return self.stay(Phase::Ready, &reply::INSUFFICIENT_STORAGE);
        }
        self.mails += 1;
        let transaction = Transaction {
            reverse_path,
            smtputf8: parameters.smtputf8,
            recipients: Vec::new(),
            refused_recipients: 0,
            refusal: None,
        };
        self.stay(Phase::InTransaction(Box::new(transaction)), &reply::SENDER_OK)
    }

    fn recipient(&mut self, transaction: Box<Transaction>, path: ForwardPath) -> (Phase, Option<Step>) {
        let refusal = if needs_smtputf8(&path) && !transaction.smtputf8 {
            reply::RECIPIENT_NEEDS_SMTPUTF8
        } else if transaction.recipients.iter().any(|recipient| recipient.path == path) {
            // Row C20: said twice, delivered once.
            reply::RECIPIENT_OK
        } else if transaction.recipients.len() >= self.settings.max_recipients {
            reply::TOO_MANY_RECIPIENTS
        } else {
            let question = Step::AskRecipient(path.clone());
            return (Phase::RecipientAsked(transaction, path), Some(question));
        };
        self.stay(Phase::InTransaction(transaction), &refusal)
    }

    fn data(&mut self, transaction: Box<Transaction>) -> (Phase, Option<Step>) {
        if let Some(refusal) = transaction.without_recipients() {
            return self.stay(Phase::InTransaction(transaction), &refusal);
        }
        self.say(&reply::SEND_DATA);
        let reader = DataReader::new(self.settings.max_message_bytes);
        (Phase::ReadingData(transaction, reader), Some(Step::StartBody))
    }

    fn read_data(&mut self, transaction: Box<Transaction>, mut reader: DataReader) -> Option<Step> {
        let kept = reader.read(&mut self.input);
        if !kept.is_empty() {
            self.phase = Phase::ReadingData(transaction, reader);
            return Some(Step::Append(kept));
        }
        let (defect, size_bytes) = (reader.defect(), reader.size_bytes());
        match reader.progress(&self.input) {
            Progress::Ended => self.finish(*transaction, size_bytes, defect, AfterMessage::Continue),
            Progress::Flooded => {
                let after = AfterMessage::Close(CloseReason::Flooded);
                self.finish(*transaction, size_bytes, Some(BodyDefect::TooLarge), after)
            }
            Progress::More => self.wait(Phase::ReadingData(transaction, reader), Step::Receive),
        }
    }

    fn first_chunk(
        &mut self,
        transaction: Box<Transaction>,
        size_bytes: u64,
        position: ChunkPosition,
    ) -> (Phase, Option<Step>) {
        match transaction.without_recipients() {
            Some(refusal) => self.refuse_chunk(Phase::InTransaction(transaction), size_bytes, refusal),
            None => {
                (Phase::ReadingChunk(transaction, Chunk::new(0, size_bytes, position)), Some(Step::StartBody))
            }
        }
    }

    fn read_chunk(&mut self, transaction: Box<Transaction>, mut chunk: Chunk) -> Option<Step> {
        let max_bytes = self.settings.max_message_bytes;
        // An announced flood is not waited for.
        if chunk.total_bytes > max_bytes.saturating_mul(FLOOD_FACTOR) {
            let after = AfterMessage::Close(CloseReason::Flooded);
            return self.finish(*transaction, chunk.total_bytes, Some(BodyDefect::TooLarge), after);
        }
        let is_too_large = chunk.total_bytes > max_bytes;
        let octets = chunk.read(&mut self.input);
        if !octets.is_empty() && !is_too_large {
            self.phase = Phase::ReadingChunk(transaction, chunk);
            return Some(Step::Append(octets));
        }
        if !chunk.is_complete() {
            return self.wait(Phase::ReadingChunk(transaction, chunk), Step::Receive);
        }
        match chunk.position {
            // Later chunks find no transaction and are refused (row D13).
            _ if is_too_large => {
                let defect = Some(BodyDefect::TooLarge);
                self.finish(*transaction, chunk.total_bytes, defect, AfterMessage::Continue)
            }
            ChunkPosition::Last => self.finish(*transaction, chunk.total_bytes, None, AfterMessage::Continue),
            ChunkPosition::More => {
                self.say(&reply::CHUNK_OK);
                self.phase = Phase::BetweenChunks(transaction, chunk.total_bytes);
                None
            }
        }
    }

    /// The octets behind a refused BDAT are read and forgotten; so many that it is a flood, and we close.
    fn refuse_chunk(&mut self, phase: Phase, size_bytes: u64, refusal: Reply) -> (Phase, Option<Step>) {
        if size_bytes > self.settings.max_message_bytes.saturating_mul(FLOOD_FACTOR) {
            return self.leave(&refusal, CloseReason::Flooded);
        }
        (Phase::SwallowingChunk(Box::new(phase), size_bytes, refusal), None)
    }

    fn swallow(&mut self, before: Box<Phase>, mut remaining: u64, refusal: Reply) -> Option<Step> {
        take_counted(&mut remaining, &mut self.input);
        if remaining > 0 {
            return self.wait(Phase::SwallowingChunk(before, remaining, refusal), Step::Receive);
        }
        self.say(&refusal);
        self.phase = *before;
        None
    }

    /// The last byte has come.
    fn finish(
        &mut self,
        transaction: Transaction,
        size_bytes: u64,
        defect: Option<BodyDefect>,
        after: AfterMessage,
    ) -> Option<Step> {
        let Transaction { reverse_path, smtputf8, recipients, refusal, .. } = transaction;
        let unasked =
            if size_bytes == 0 { Some(reply::BAD_SYNTAX) } else { refusal.filter(|_| defect.is_none()) };
        if let Some(answer) = unasked {
            self.phase = Phase::Ready;
            self.say_or_close(&answer, after);
            return None;
        }
        let client = self.client.clone();
        self.phase = Phase::MessageAsked(defect, after);
        Some(Step::AskMessage(Box::new(Envelope { client, reverse_path, recipients, smtputf8, defect })))
    }

    fn start_tls(&mut self, phase: Phase) -> (Phase, Option<Step>) {
        if self.client.tls.is_some() {
            return self.stay(phase, &reply::BAD_SEQUENCE);
        }
        if self.settings.tls == TlsPolicy::Unavailable {
            return self.stay(phase, &reply::TLS_UNAVAILABLE);
        }
        // CVE-2011-0411: commands that wait in our buffer would be taken for the client's own, inside TLS.
        if !self.input.is_empty() {
            return self.leave(&reply::INPUT_BEHIND_STARTTLS, CloseReason::InputBehindStartTls);
        }
        self.stay(Phase::StartingTls, &reply::START_TLS)
    }

    /// Before a step that waits for the client or leaves it, everything we have said goes out.
    fn wait(&mut self, phase: Phase, step: Step) -> Option<Step> {
        self.phase = phase;
        if !self.replies.is_empty() {
            return Some(self.send());
        }
        if self.input.is_empty() {
            // An idle session holds no buffer.
            self.input = BytesMut::new();
        }
        Some(step)
    }

    fn send(&mut self) -> Step {
        Step::Send(std::mem::take(&mut self.replies).into())
    }

    fn say(&mut self, reply: &Reply) {
        self.replies.extend(sendable(&reply.line()));
    }

    fn stay(&mut self, phase: Phase, reply: &Reply) -> (Phase, Option<Step>) {
        self.say(reply);
        (phase, None)
    }

    fn leave(&mut self, reply: &Reply, reason: CloseReason) -> (Phase, Option<Step>) {
        self.say(reply);
        (Phase::Closing(reason), None)
    }

    fn close(&mut self, reply: &Reply, reason: CloseReason) {
        self.say(reply);
        self.phase = Phase::Closing(reason);
    }

    /// Says what the handler answered; a 421 closes (RFC 5321 section 3.8).
    fn say_or_close(&mut self, reply: &Reply, after: AfterMessage) {
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

impl Transaction {
    /// What DATA and BDAT are answered when nobody is to get the message.
    fn without_recipients(&self) -> Option<Reply> {
        match (self.recipients.is_empty(), self.refused_recipients) {
            (false, _) => None,
            (true, 0) => Some(reply::BAD_SEQUENCE),
            (true, _) => Some(reply::NO_VALID_RECIPIENTS),
        }
    }
}

fn needs_smtputf8(path: &ForwardPath) -> bool {
    match path {
        ForwardPath::Address(address) => !address.as_str().is_ascii(),
        ForwardPath::Postmaster => false,
    }
}

/// A message whose body we threw away cannot have been accepted, whatever the handler says.
fn final_reply(answer: Reply, defect: Option<BodyDefect>) -> Reply {
    let is_kept = answer.code < 300;
    match defect {
        Some(BodyDefect::BareNewline) if is_kept => Reply { trace: answer.trace, ..reply::BAD_SYNTAX },
        Some(BodyDefect::TooLarge) if is_kept => Reply { trace: answer.trace, ..reply::TOO_LARGE },
        Some(BodyDefect::BareNewline | BodyDefect::TooLarge) | None => match answer.code {
            200..=299 | 400..=599 => answer,
            _ => reply::STORE_UNAVAILABLE,
        },
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
